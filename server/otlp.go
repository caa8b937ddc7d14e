package server

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/klauspost/compress/zstd"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/otel"
)

// The paths of OTLP/HTTP (https://opentelemetry.io/docs/specs/otlp/#otlphttp), and where Langfuse's SDKs send.
const (
	tracesPath   = "/v1/traces"
	logsPath     = "/v1/logs"
	metricsPath  = "/v1/metrics"
	langfusePath = "/api/public/otel"
)

// maxOTLP is the largest export in bytes, after decompression.
const maxOTLP = 32 << 20

// The memory that a byte of an export needs, at worst: while it is read into a buffer that grows, and while it is
// mapped.
const (
	weightReading = 2
	weightOTLP    = 4
)

// otlpProtocols are OTLP's paths.
func (s *Server) otlpProtocols() (all []protocol) {
	for _, path := range []string{tracesPath, logsPath, metricsPath} {
		p := protocol{prefix: path, encodings: []string{"gzip", "zstd"}, refuse: s.refuseOTLP, bodySize: maxOTLP,
			bodyMemory: func(int64) int64 { return 0 }} // readExport reserves it, as the export grows
		all = append(all, p)
		p.prefix, p.credential = langfusePath+path, basicOrBearer
		all = append(all, p)
	}
	return all
}

// otlpRoutes registers the paths.
func (s *Server) otlpRoutes() {
	for _, prefix := range []string{"", langfusePath} {
		s.mux.HandleFunc("POST "+prefix+tracesPath, s.otlp(s.receiveTraces))
		s.mux.HandleFunc("POST "+prefix+logsPath, s.otlp(s.receiveLogs))
		s.mux.HandleFunc("POST "+prefix+metricsPath, s.otlp(s.receiveMetrics))
	}
}

// basicOrBearer returns the credential of a request that has it as Basic's password, as Langfuse's SDKs send their
// secret key, or as Bearer.
func basicOrBearer(r *http.Request) (string, error) {
	scheme, encoded, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Basic") || len(r.Header.Values("Authorization")) > 1 {
		return bearer(r)
	}
	raw, err := base64.StdEncoding.DecodeString(encoded)
	_, password, found := strings.Cut(string(raw), ":")
	if err != nil || !found || password == "" {
		return "", problem(http.StatusUnauthorized,
			"header.Authorization: it must be Basic with a key (kst_…) as the password: LANGFUSE_SECRET_KEY")
	}
	return password, nil
}

// emptyPartial is the encoding of a response whose partial_success is set and empty.
const emptyPartial = "\x0a\x00"

// otlpAnswer is a message that both of OTLP's encodings have.
type otlpAnswer interface {
	MarshalProto() ([]byte, error)
	MarshalJSON() ([]byte, error)
}

// receiver logs what an export means.
type receiver func(ctx context.Context, who access.Principal, raw []byte, isJSON bool) (otlpAnswer, error)

// otlp returns a handler that reads an export and writes the answer in its encoding.
func (s *Server) otlp(receive receiver) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		answer, err := s.export(r, receive)
		if err != nil {
			s.writeResponseProblem(w, r, s.errorResponse(r.Context(), err))
			return
		}
		var raw []byte
		kind := "application/x-protobuf"
		if isJSON(r) {
			kind = "application/json"
			if raw, err = answer.MarshalJSON(); string(raw) == `{"partialSuccess":{}}` {
				raw = []byte("{}") // partial_success is unset where nothing was rejected
			}
		} else if raw, err = answer.MarshalProto(); string(raw) == emptyPartial {
			raw = nil
		}
		if err != nil {
			s.writeResponseProblem(w, r, s.errorResponse(r.Context(), fmt.Errorf("encode an answer: %w", err)))
			return
		}
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write(raw)
	}
}

// export checks and reads a request, and hands its export on.
func (s *Server) export(r *http.Request, receive receiver) (otlpAnswer, error) {
	ctx, who := r.Context(), principalOf(r.Context())
	if !who.Can(access.EventsWrite) {
		return nil, problem(http.StatusForbidden, "permission denied: it needs %s", access.EventsWrite)
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" && kind != "application/x-protobuf" {
		return nil, problem(http.StatusUnsupportedMediaType,
			"header.Content-Type: it must be application/x-protobuf or application/json")
	}
	raw, release, err := s.readExport(ctx, who, r)
	if err != nil {
		return nil, err
	}
	release() // decodeOTLP reserves for it and for what is in it, at once
	return receive(ctx, who, raw, isJSON(r))
}

func isJSON(r *http.Request) bool {
	return strings.HasPrefix(strings.ToLower(r.Header.Get("Content-Type")), "application/json")
}

// readExport reads and decompresses a body of at most maxOTLP bytes. It reserves memory as the body grows, so that a
// small one holds little; release frees it.
func (s *Server) readExport(ctx context.Context, who access.Principal, r *http.Request) (raw []byte, release func(),
	err error) {
	var releases []func()
	releaseAll := func() {
		for _, release := range releases {
			release()
		}
	}
	defer func() {
		if err != nil {
			releaseAll()
		}
	}()
	var body io.Reader = r.Body
	switch strings.ToLower(r.Header.Get("Content-Encoding")) {
	case "gzip":
		z, err := gzip.NewReader(body)
		if err != nil {
			return nil, nil, otlpBodyProblem(err)
		}
		body = z
	case "zstd":
		z, err := zstd.NewReader(body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxOTLP),
			zstd.WithDecoderMaxWindow(8<<20))
		if err != nil {
			return nil, nil, otlpBodyProblem(err)
		}
		defer z.Close()
		body = z
	}
	var b bytes.Buffer
	for step := int64(256 << 10); ; step = min(int64(b.Len()), int64(maxOTLP+1-b.Len())) {
		release, err := s.memory.reserve(ctx, who.Tenant, step*weightReading)
		if err != nil {
			return nil, nil, err
		}
		releases = append(releases, release)
		n, err := io.CopyN(&b, body, step)
		switch {
		case errors.Is(err, io.EOF) && n < step:
			return b.Bytes(), releaseAll, nil
		case err != nil:
			return nil, nil, otlpBodyProblem(err)
		case b.Len() > maxOTLP:
			return nil, nil, problem(http.StatusRequestEntityTooLarge,
				"body: it has more than %d bytes after decompression: send fewer records at a time", maxOTLP)
		}
	}
}

// otlpBodyProblem explains why a body could not be read.
func otlpBodyProblem(err error) error {
	if p := bodyProblem(err); p.Status != http.StatusBadRequest {
		return p
	}
	return problem(http.StatusBadRequest, "body: it ended early, or is not what header.Content-Encoding says")
}

func unreadableOTLP(err error) error {
	return problem(http.StatusBadRequest, "body: it is not an export request of OTLP: %.200s", err)
}

func (s *Server) receiveTraces(ctx context.Context, who access.Principal, raw []byte, isJSON bool) (otlpAnswer, error) {
	in := ptraceotlp.NewExportRequest()
	done, err := s.decodeOTLP(ctx, who, in, otel.TraceShape, raw, isJSON)
	if err != nil {
		return nil, err
	}
	defer done()
	c, err := s.captured(ctx, who, "traces", otel.Spans(in.Traces(), s.captureOptions(who)))
	if err != nil {
		return nil, err
	}
	out := ptraceotlp.NewExportResponse()
	if c.rejected > 0 {
		out.PartialSuccess().SetRejectedSpans(c.rejected)
		out.PartialSuccess().SetErrorMessage(c.reason)
	}
	return out, nil
}

func (s *Server) receiveLogs(ctx context.Context, who access.Principal, raw []byte, isJSON bool) (otlpAnswer, error) {
	in := plogotlp.NewExportRequest()
	done, err := s.decodeOTLP(ctx, who, in, otel.LogShape, raw, isJSON)
	if err != nil {
		return nil, err
	}
	defer done()
	c, err := s.captured(ctx, who, "logs", otel.Logs(in.Logs(), s.captureOptions(who)))
	if err != nil {
		return nil, err
	}
	out := plogotlp.NewExportResponse()
	if c.rejected > 0 {
		out.PartialSuccess().SetRejectedLogRecords(c.rejected)
		out.PartialSuccess().SetErrorMessage(c.reason)
	}
	return out, nil
}

// receiveMetrics accepts metrics and drops them: they are no actions.
func (s *Server) receiveMetrics(ctx context.Context, _ access.Principal, _ []byte, _ bool) (otlpAnswer, error) {
	s.dropMetrics.Do(func() {
		s.logger.InfoContext(ctx, "metrics arrive over OTLP: they are accepted and dropped, which is said once")
	})
	return pmetricotlp.NewExportResponse(), nil
}

// decodeOTLP decodes an export. It first counts its items, refuses too many, and reserves their memory: an item needs
// many times the memory of its shortest encoding.
func (s *Server) decodeOTLP(ctx context.Context, who access.Principal, in interface {
	UnmarshalProto([]byte) error
	UnmarshalJSON([]byte) error
}, shape otel.Shape, raw []byte, isJSON bool) (done func(), err error) {
	check, decode := shape.CheckProto, in.UnmarshalProto
	if isJSON {
		check, decode = otel.CheckJSON, in.UnmarshalJSON
	}
	items, err := check(raw)
	if errors.Is(err, otel.ErrTooMany) {
		return nil, problem(http.StatusRequestEntityTooLarge, "body: %v: send fewer records at a time", err)
	} else if err != nil {
		return nil, unreadableOTLP(err)
	}
	need := int64(len(raw))*weightOTLP + int64(items)*otel.ItemMemory
	if done, err = s.memory.reserve(ctx, who.Tenant, need); err != nil {
		return nil, err
	}
	if err := decode(raw); err != nil {
		done()
		return nil, unreadableOTLP(err)
	}
	return done, nil
}

// refuseOTLP writes a problem as OTLP/HTTP has it: a google.rpc.Status in the encoding of the request.
func (s *Server) refuseOTLP(w http.ResponseWriter, r *http.Request, p *Problem) {
	message := &status.Status{Code: int32(grpcCode(p.Status)), // an error may quote bytes of the body
		Message: strings.ToValidUTF8(p.Detail, "\ufffd") + " (request " + p.Instance + ")"}
	var raw []byte
	var err error
	kind := "application/x-protobuf"
	if isJSON(r) {
		kind = "application/json"
		raw, err = protojson.Marshal(message)
	} else {
		raw, err = proto.Marshal(message)
	}
	if err != nil {
		s.logger.ErrorContext(r.Context(), "a problem was not encoded", "error", err)
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(p.Status)
	_, _ = w.Write(raw)
}

// grpcCode returns gRPC's code of an HTTP status. OTLP's clients try again after Unavailable, and after
// ResourceExhausted where a delay is given.
func grpcCode(httpStatus int) codes.Code {
	switch httpStatus {
	case http.StatusUnauthorized:
		return codes.Unauthenticated
	case http.StatusForbidden:
		return codes.PermissionDenied
	case http.StatusTooManyRequests:
		return codes.ResourceExhausted
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusRequestTimeout:
		return codes.Unavailable
	case http.StatusInternalServerError:
		return codes.Internal
	}
	return codes.InvalidArgument
}
