package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	_ "google.golang.org/grpc/encoding/gzip" // exporters compress with it
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/tenantdb"
)

// Limits on OTLP over gRPC. An export is read before its size is known, so fewer are in progress than over HTTP.
const (
	maxOTLPgRPC    = 8 << 20 // bytes of an export, after decompression
	maxGRPCItems   = 500_000 // of an export
	maxExports     = 16      // in progress; more are told to try again
	maxGRPCHeaders = 16 << 10
)

// RunOTLP serves OTLP over gRPC on a listener until the context ends, and then finishes the exports in progress. certs
// is nil for plain text, on localhost or behind a proxy.
func (s *Server) RunOTLP(ctx context.Context, listener net.Listener, certs *tls.Config) error {
	var working atomic.Int64
	options := []grpc.ServerOption{grpc.MaxRecvMsgSize(maxOTLPgRPC), grpc.MaxConcurrentStreams(maxExports),
		grpc.MaxHeaderListSize(maxGRPCHeaders), grpc.ConnectionTimeout(10 * time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idleTime}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second,
			PermitWithoutStream: true}),
		grpc.InTapHandle(func(ctx context.Context, info *tap.Info) (context.Context, error) {
			return s.admitExport(ctx, info, &working)
		}),
		grpc.ForceServerCodecV2(rawCodec{}), grpc.UnaryInterceptor(s.aroundExport)}
	if certs != nil {
		c := certs.Clone()
		c.NextProtos = []string{"h2"}
		c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
		options = append(options, grpc.Creds(credentials.NewTLS(c)))
	}
	g := grpc.NewServer(options...)
	const services = "opentelemetry.proto.collector."
	for name, receive := range map[string]receiver{"trace.v1.TraceService": s.receiveTraces,
		"logs.v1.LogsService": s.receiveLogs, "metrics.v1.MetricsService": s.receiveMetrics} {
		g.RegisterService(exportService(services+name, receive), nil)
	}
	failed := make(chan error, 1)
	go func() { failed <- g.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve OTLP over gRPC: %w", err)
	case <-ctx.Done():
	}
	late := time.AfterFunc(drainTime, g.Stop)
	g.GracefulStop()
	late.Stop()
	return nil
}

// rawMessage is a message that is passed as its bytes: what is in an export is counted before it is decoded, and what
// is none gets the code that OTLP has for it.
type rawMessage struct{ bytes []byte }

// rawCodec passes messages as they are.
type rawCodec struct{}

// Name implements encoding.CodecV2.
func (rawCodec) Name() string { return "proto" }

// Marshal implements encoding.CodecV2.
func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	m, is := v.(*rawMessage)
	if !is {
		return nil, fmt.Errorf("encode a %T: it is no message of OTLP's", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(m.bytes)}, nil
}

// Unmarshal implements encoding.CodecV2.
func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	m, is := v.(*rawMessage)
	if !is {
		return fmt.Errorf("decode a %T: it is no message of OTLP's", v)
	}
	m.bytes = data.Materialize()
	return nil
}

// exportService describes a service of OTLP's with its one method.
func exportService(name string, receive receiver) *grpc.ServiceDesc {
	full := "/" + name + "/Export"
	handler := func(_ any, ctx context.Context, decode func(any) error,
		around grpc.UnaryServerInterceptor) (any, error) {
		in := &rawMessage{}
		if err := decode(in); err != nil {
			return nil, err
		}
		return around(ctx, in, &grpc.UnaryServerInfo{FullMethod: full}, func(ctx context.Context, in any) (any, error) {
			answer, err := receive(ctx, principalOf(ctx), in.(*rawMessage).bytes, false)
			if err != nil {
				return nil, err
			}
			raw, err := answer.MarshalProto()
			if string(raw) == emptyPartial {
				raw = nil
			}
			return &rawMessage{raw}, err
		})
	}
	return &grpc.ServiceDesc{ServiceName: name, HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Export", Handler: handler}}}
}

// admitExport authenticates an export before its message is read, so that strangers' messages take no memory.
func (s *Server) admitExport(ctx context.Context, info *tap.Info, working *atomic.Int64) (context.Context, error) {
	who, err := s.authenticateGRPC(ctx, info.Header)
	if err != nil {
		return nil, s.grpcError(ctx, err)
	}
	if !who.Can(access.EventsWrite) {
		return nil, status.Errorf(codes.PermissionDenied, "permission denied: it needs %s", access.EventsWrite)
	}
	if working.Add(1) > maxExports {
		working.Add(-1)
		return nil, s.grpcError(ctx, retryLater(http.StatusServiceUnavailable, retryAfter,
			"the service has %d exports in progress: try again", maxExports))
	}
	context.AfterFunc(ctx, func() { working.Add(-1) })
	return context.WithValue(tenantdb.WithLabels(ctx, who.Labels()), principalKey, who), nil
}

func (s *Server) authenticateGRPC(ctx context.Context, headers metadata.MD) (access.Principal, error) {
	r := &http.Request{Header: http.Header{"Authorization": headers.Get("authorization")}}
	if len(headers.Get("authorization")) == 0 {
		r.Header = http.Header{}
	}
	credential, err := bearer(r)
	if err != nil {
		return access.Principal{}, err
	}
	if strings.Count(credential, ".") == 2 && s.c.OIDC != nil {
		return s.c.OIDC.Check(ctx, credential)
	}
	return s.keys.Check(ctx, credential)
}

// aroundExport applies limits to an export, and turns errors into gRPC's.
func (s *Server) aroundExport(ctx context.Context, in any, _ *grpc.UnaryServerInfo,
	next grpc.UnaryHandler) (out any, err error) {
	defer func() {
		if thrown := recover(); thrown != nil {
			s.logger.ErrorContext(ctx, "an export panicked", "panic", thrown, "stack", string(debug.Stack()))
			out, err = nil, status.Error(codes.Internal, "something went wrong here: the service's log has it")
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	end, _, err := s.meter.Begin(ctx, principalOf(ctx))
	if err != nil {
		return nil, s.grpcError(ctx, err)
	}
	defer end()
	if out, err = next(ctx, in); err != nil {
		return nil, s.grpcError(ctx, err)
	}
	return out, nil
}

// grpcError converts an error as errorResponse does. One that the client may retry says when.
func (s *Server) grpcError(ctx context.Context, err error) error {
	var own interface{ GRPCStatus() *status.Status }
	if errors.As(err, &own) {
		return err
	}
	p := s.errorResponse(ctx, err)
	st := status.New(grpcCode(p.Status), p.Detail)
	if p.after > 0 {
		if with, err := st.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(p.after)}); err == nil {
			st = with
		}
	}
	return st.Err()
}
