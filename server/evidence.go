package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/google/uuid"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/notary"
	"github.com/konstruct/konstruct/verify"
)

// errNoEvidence means that the service has no connection as the notary's role.
var errNoEvidence = problem(http.StatusConflict,
	"this service has no evidence: its operator must set KONSTRUCT_NOTARY_DATABASE_URL")

// withheldFields parses the names of fields not to disclose.
func withheldFields(location string, names []string) (map[ledger.Field]bool, error) {
	all := map[ledger.Field]bool{}
	for _, name := range names {
		f, err := ledger.FieldNamed(name)
		if err != nil {
			return nil, fieldProblem(location, err.Error())
		}
		all[f] = true
	}
	return all, nil
}

// textResponse is a response that is not JSON.
type textResponse struct {
	ContentType string `header:"Content-Type"`
	Body        []byte
}

func textContent(kind, description string) map[string]*huma.Response {
	return map[string]*huma.Response{"200": {Description: description,
		Content: map[string]*huma.MediaType{kind: {Schema: &huma.Schema{Type: "string"}}}}}
}

func (s *Server) proofs() {
	op := func(id, method, path, summary string) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, Tags: []string{"Evidence"}}
	}
	prove := op("getEventProof", "GET", "/v1/events/{id}/proof",
		"Get a proof that an event is in the log (C2SP tlog-proof)")
	prove.Responses = textContent("text/plain",
		"The proof; its extra data is the event's record with the disclosed fields")
	register(s, prove, access.EvidenceRead, func(ctx context.Context, w access.Principal, in *struct {
		PathID
		Withhold []fieldName `query:"withhold,explode" maxItems:"7" doc:"Fields that are not disclosed"`
	}) (*textResponse, error) {
		if s.c.Evidence == nil {
			return nil, errNoEvidence
		}
		e, err := s.getEvent(ctx, w, in.PathID)
		if err != nil {
			return nil, err
		}
		withheld := stringsOf[string](in.Withhold)
		hidden, err := withheldFields("query.withhold", withheld)
		if err != nil {
			return nil, err
		}
		raw, err := verify.Prove(ctx, s.c.Evidence, w.Tenant, e.ID, func(f ledger.Field) bool { return !hidden[f] })
		if err == nil {
			err = s.tenant(w).Record(ctx, w, audit.ActionProof,
				map[string]any{"event_id": e.ID, "withheld": withheld})
		}
		return &textResponse{"text/plain; charset=utf-8", raw}, err
	})
	receipt := op("getEventReceipt", "GET", "/v1/events/{id}/receipt",
		"Get a signed promise that an event enters the log within a minute")
	receipt.Responses = textContent("text/plain", "The receipt, a signed note")
	register(s, receipt, access.EventsRead,
		func(ctx context.Context, w access.Principal, in *PathID) (*textResponse, error) {
			e, err := s.getEvent(ctx, w, *in)
			if err != nil {
				return nil, err
			}
			signed, err := s.tenant(w).Events().Receipt(ctx, e.ID)
			return &textResponse{"text/plain; charset=utf-8", []byte(signed)}, err
		})
	register(s, op("checkReceipt", "POST", "/v1/receipts/check", "Check whether the promise of a receipt was kept"),
		access.EvidenceRead, func(ctx context.Context, w access.Principal, in *struct {
			Body struct {
				Receipt string `json:"receipt" minLength:"1" maxLength:"10000"`
			}
		}) (*Response[verify.ReceiptCheck], error) {
			if s.c.Evidence == nil {
				return nil, errNoEvidence
			}
			p, err := verify.CheckReceipt(ctx, s.c.Evidence, in.Body.Receipt, nil, s.c.Floor)
			var invalid *verify.ReceiptError
			switch {
			case errors.As(err, &invalid):
				return nil, fieldProblem("body.receipt", invalid.Error())
			case err != nil:
				return nil, err
			case p.Tenant != w.Tenant.String():
				return nil, problem(http.StatusNotFound, "the receipt is not of an event of this tenant")
			}
			return &Response[verify.ReceiptCheck]{p}, nil
		})
	register(s, op("getNotary", "GET", "/v1/notary", "Get the notary's public key"), access.EventsRead,
		func(context.Context, access.Principal, *struct{}) (*Response[NotaryKey], error) {
			if s.c.Notary == nil {
				return nil, notary.ErrNoKey
			}
			signer, err := s.c.Notary.Read()
			if err != nil {
				return nil, err
			}
			return &Response[NotaryKey]{NotaryKey{signer.String()}}, nil
		})
	s.tiles(op)
}

// NotaryKey is the notary's public key.
type NotaryKey struct {
	Key string `json:"key" doc:"A C2SP verifier key"`
}

// tiles serves the tenant's log below /v1/log/ to C2SP tlog-tiles clients. A tile's path has slashes, which OpenAPI
// does not support in a parameter, so its description is built by hand.
func (s *Server) tiles(op func(id, method, path, summary string) huma.Operation) {
	const text, binary = "text/plain; charset=utf-8", "application/octet-stream"
	read := func(ctx context.Context, w access.Principal, path, kind string) (*textResponse, error) {
		if s.c.Evidence == nil {
			return nil, errNoEvidence
		}
		raw, err := notary.ReadFile(ctx, s.c.Evidence, w.Tenant, path)
		return &textResponse{kind, raw}, err
	}
	checkpoint := op("getCheckpoint", "GET", "/v1/log/checkpoint",
		"Get the newest signed checkpoint of the log (C2SP tlog-checkpoint)")
	checkpoint.Responses = textContent(text, "The file, as C2SP tlog-tiles defines it")
	register(s, checkpoint, access.EvidenceRead,
		func(ctx context.Context, w access.Principal, _ *struct{}) (*textResponse, error) {
			return read(ctx, w, "checkpoint", text)
		})
	tile := op("getTile", "GET", "/v1/log/tile/{level}/{index...}", "Get a tile of the log (C2SP tlog-tiles)")
	tile.Hidden, tile.Responses = true, textContent(binary, "The file, as C2SP tlog-tiles defines it")
	register(s, tile, access.EvidenceRead, func(ctx context.Context, w access.Principal, in *struct {
		Level string `path:"level" maxLength:"20"`
		Index string `path:"index" maxLength:"200"`
	}) (*textResponse, error) {
		return read(ctx, w, "tile/"+in.Level+"/"+in.Index, binary)
	})
	tile.Path, tile.Hidden, tile.Description = "/v1/log/tile/{level}/{index}", false,
		"The index as in C2SP tlog-tiles, with slashes: 000, x001/234, 000.p/21."
	tile.Responses = textContent("application/octet-stream", "The tile")
	s.requirePermission(&tile, access.EvidenceRead)
	tile.Parameters = []*huma.Param{{Name: "level", In: "path", Required: true, Schema: &huma.Schema{Type: "string"}},
		{Name: "index", In: "path", Required: true, Schema: &huma.Schema{Type: "string"}}}
	s.api.OpenAPI().AddOperation(&tile)
}

// The kinds of tasks.
const (
	kindBundle       = "bundle"
	kindExport       = "export"
	kindVerification = "verification"
)

// CreateTaskRequest is the input of a task: which events, and how to write them.
type CreateTaskRequest struct {
	Since    string      `json:"since,omitempty" format:"date-time"`
	Until    string      `json:"until,omitempty" format:"date-time"`
	Agent    string      `json:"agent_id,omitempty" format:"uuid"`
	User     *string     `json:"user_id,omitempty" maxLength:"1024"`
	Action   *string     `json:"action_type,omitempty" maxLength:"1024"`
	Metadata jsonObject  `json:"metadata,omitempty" doc:"Contained in the events' metadata"`
	Withhold []fieldName `json:"withhold,omitempty" maxItems:"7" doc:"Fields that a bundle does not disclose"`
	Format   string      `json:"format,omitempty" enum:"jsonl,csv,parquet,ocsf,cloudevents" doc:"For an export"`
}

// Task is a background job that makes a file: a bundle, an export or a verification.
type Task struct {
	ID        uuid.UUID       `json:"id"`
	Kind      string          `json:"kind" enum:"bundle,export,verification"`
	State     string          `json:"state" enum:"open,done,failed" doc:"open while it runs"`
	Reason    string          `json:"reason,omitempty" doc:"Why it failed"`
	Bytes     int64           `json:"bytes" doc:"So far"`
	Request   json.RawMessage `json:"wanted"`
	Result    json.RawMessage `json:"made" doc:"When done: events, hash, findings"`
	Content   string          `json:"content,omitempty" doc:"URL of the file, when done"`
	CreatedAt string          `json:"created_at" format:"date-time"`
	ExpiresAt string          `json:"expires_at" format:"date-time"`
}

func (s *Server) evidence() {
	op := func(id, method, path, summary string) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, Tags: []string{"Evidence"}}
	}
	for _, k := range []struct{ kind, path, summary string }{
		{kindBundle, "/v1/evidence", "Create an evidence bundle; a task makes it"},
		{kindExport, "/v1/exports", "Create an export of events; a task makes it"},
		{kindVerification, "/v1/verifications", "Verify every event of the tenant against its seal and its log"},
	} {
		begin := op("create"+strings.ToUpper(k.kind[:1])+k.kind[1:], "POST", k.path, k.summary)
		begin.DefaultStatus, begin.Description = http.StatusAccepted,
			"The task runs in the background, and its file is kept for a day: poll Location until its state is done."
		if k.kind == kindExport {
			register(s, begin, access.EvidenceRead, s.createExport)
			continue
		}
		register(s, begin, access.EvidenceRead,
			func(ctx context.Context, w access.Principal,
				in *struct{ Body CreateTaskRequest }) (*Created[Task], error) {
				return s.createTask(ctx, w, k.kind, in.Body)
			})
	}
	register(s, op("listTasks", "GET", "/v1/tasks", "List bundles, exports and verifications of the last day"),
		access.EvidenceRead, func(ctx context.Context, w access.Principal, in *struct {
			ListParams
			Kind string `query:"kind" required:"true" enum:"bundle,export,verification"`
		}) (*Response[List[Task]], error) {
			after, err := in.afterID()
			if err != nil {
				return nil, err
			}
			files, err := s.artifacts.List(ctx, w.Tenant, in.Kind, after, in.Limit)
			if err != nil {
				return nil, err
			}
			var tasks []Task
			for _, f := range files {
				tasks = append(tasks, newTask(f))
			}
			return listPage(tasks, in.Limit, func(t Task) string { return t.ID.String() }), nil
		})
	register(s, op("getTask", "GET", "/v1/tasks/{id}", "Get the state of a task"), access.EvidenceRead,
		func(ctx context.Context, w access.Principal, in *PathID) (*Response[Task], error) {
			f, err := s.getTask(ctx, w, *in)
			if err != nil {
				return nil, err
			}
			return &Response[Task]{newTask(f)}, nil
		})
	content := op("getTaskContent", "GET", "/v1/tasks/{id}/content", "Download the file of a task; ranges are served")
	binary := map[string]*huma.MediaType{}
	for _, kind := range []string{"application/zip", "application/x-ndjson", "text/csv",
		"application/vnd.apache.parquet"} {
		binary[kind] = &huma.MediaType{Schema: &huma.Schema{Type: "string", Format: "binary"}}
	}
	content.Responses = map[string]*huma.Response{"200": {Description: "The file", Content: binary},
		"206": {Description: "A part of it", Content: binary},
		"304": {Description: "The client has the current one"}}
	content.Errors = []int{http.StatusPreconditionFailed, http.StatusRequestedRangeNotSatisfiable}
	register(s, content, access.EvidenceRead,
		func(ctx context.Context, w access.Principal, in *PathID) (*huma.StreamResponse, error) {
			f, err := s.getTask(ctx, w, *in)
			switch {
			case err != nil:
				return nil, err
			case f.State != "done" || f.Kind == kindVerification:
				return nil, retryLater(http.StatusConflict, retryAfter,
					"there is nothing to download: its state is %s", f.State)
			}
			return &huma.StreamResponse{Body: func(hc huma.Context) {
				r, rw := humago.Unwrap(hc)
				name, kind := contentName(f)
				rw.Header().Set("Content-Type", kind)
				rw.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
				rw.Header().Set("ETag", `"`+f.ID.String()+`"`)
				_ = http.NewResponseController(rw).SetWriteDeadline(f.ExpiresAt)
				http.ServeContent(rw, r.WithContext(ctx), "", f.CreatedAt, s.artifacts.Read(ctx, w.Tenant, f))
			}}, nil
		})
	remove := op("deleteTask", "DELETE", "/v1/tasks/{id}", "Delete a task and its file")
	remove.DefaultStatus = http.StatusNoContent
	register(s, remove, access.EvidenceRead,
		func(ctx context.Context, w access.Principal, in *PathID) (*NoContent, error) {
			f, err := s.getTask(ctx, w, *in)
			if err != nil {
				return nil, err
			}
			return nil, s.artifacts.Delete(ctx, w.Tenant, f.ID)
		})
}
