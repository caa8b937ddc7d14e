package server

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/artifact"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/evidence"
	"github.com/konstruct/konstruct/export"
	"github.com/konstruct/konstruct/verify"
)

// taskOptions are the stored options of a task.
type taskOptions struct {
	CreateTaskRequest
	Maker taskMaker `json:"maker"`
}

// taskMaker is the principal who created a task. The task's event names it, whoever resumes the task.
type taskMaker struct {
	Credential uuid.UUID   `json:"credential"`
	Name       string      `json:"name"`
	Role       access.Role `json:"role,omitempty"`
}

// principal returns the maker as a principal of its tenant. It has no permissions: those were checked at the creation.
func (m taskMaker) principal(tenant uuid.UUID) access.Principal {
	return access.Principal{Tenant: tenant, Credential: m.Credential, Name: m.Name, Role: m.Role}
}

// createTask stores a task and starts it in the background.
func (s *Server) createTask(ctx context.Context, w access.Principal, kind string,
	in CreateTaskRequest) (*Created[Task], error) {
	switch {
	case s.c.Evidence == nil && kind != kindExport:
		return nil, errNoEvidence
	case w.Agent != uuid.Nil:
		return nil, problem(403, "a key of one agent can't create evidence, which is of all agents")
	case kind == kindExport && in.Format == "":
		return nil, fieldProblem("body.format", "is missing: jsonl, csv, parquet, ocsf or cloudevents")
	case kind != kindExport && in.Format != "":
		return nil, fieldProblem("body.format", "is for exports only")
	case kind != kindBundle && len(in.Withhold) > 0:
		return nil, fieldProblem("body.withhold", "is for bundles only")
	}
	if _, err := in.filter(); err != nil {
		return nil, err
	}
	f, err := s.artifacts.Create(ctx, w.Tenant, kind,
		taskOptions{in, taskMaker{w.Credential, w.Name, w.Role}}, nil, nil)
	if err != nil {
		return nil, err
	}
	s.runTask(w.Tenant, f)
	return &Created[Task]{Location: "/v1/tasks/" + f.ID.String(), Body: newTask(f)}, nil
}

// getTask returns a task, and restarts it if its process was killed.
func (s *Server) getTask(ctx context.Context, w access.Principal, in PathID) (f artifact.File, err error) {
	fid, err := in.uuid()
	if err != nil {
		return f, err
	}
	if f, err = s.artifacts.Get(ctx, w.Tenant, fid); err != nil {
		return f, err
	}
	if !slices.Contains([]string{kindBundle, kindExport, kindVerification}, f.Kind) {
		return f, artifact.ErrNotFound
	}
	if f.State == artifact.Open {
		s.runTask(w.Tenant, f)
	}
	return f, nil
}

func newTask(f artifact.File) Task {
	var in taskOptions
	_ = json.Unmarshal(f.Options, &in) // valid: createTask wrote it
	request, _ := json.Marshal(in.CreateTaskRequest)
	t := Task{ID: f.ID, Kind: f.Kind, State: string(f.State), Reason: f.Reason, Bytes: f.Stored, Request: request,
		Result: f.Result, CreatedAt: f.CreatedAt.UTC().Format(time.RFC3339Nano),
		ExpiresAt: f.ExpiresAt.UTC().Format(time.RFC3339Nano)}
	if f.State == artifact.Done && f.Kind != kindVerification {
		t.Content = "/v1/tasks/" + f.ID.String() + "/content"
	}
	return t
}

// runTask runs a task in the background, unless this or another process does already.
func (s *Server) runTask(tenant uuid.UUID, f artifact.File) {
	var in taskOptions
	if err := json.Unmarshal(f.Options, &in); err != nil {
		s.logger.Error("a task can't be read", "task", f.ID, "error", err)
		return
	}
	if _, running := s.tasks.LoadOrStore(f.ID, true); running {
		return
	}
	s.background.Go(func() {
		defer s.tasks.Delete(f.ID)
		select {
		case s.makingTasks <- struct{}{}:
			defer func() { <-s.makingTasks }()
		case <-s.lifetime.Done():
			return
		}
		err := s.artifacts.Produce(s.lifetime, tenant, f.ID, func(ctx context.Context, to io.Writer) (any, error) {
			return s.writeContent(ctx, in.Maker.principal(tenant), f.Kind, in.CreateTaskRequest, to)
		})
		if err != nil && !errors.Is(err, artifact.ErrTakenOver) && s.lifetime.Err() == nil {
			s.logger.Error("a task failed", "task", f.ID, "kind", f.Kind, "error", err)
		}
	})
}

// writeContent writes a task's file, and records the event.
func (s *Server) writeContent(ctx context.Context, w access.Principal, kind string, in CreateTaskRequest,
	to io.Writer) (said any, err error) {
	f, err := in.filter()
	if err != nil {
		return nil, err
	}
	t, action := s.tenant(w), ""
	switch kind {
	case kindBundle:
		filter := evidence.Filter{Since: f.Since.UTC().Truncate(time.Microsecond),
			Until: f.Until.UTC().Truncate(time.Microsecond), Agent: in.Agent, User: in.User, Action: in.Action,
			Metadata: json.RawMessage(in.Metadata)}
		b, err := verify.WriteBundle(ctx, s.c.Evidence, w.Tenant, filter, stringsOf[string](in.Withhold), to, nil)
		if err != nil {
			return nil, err
		}
		action, said = audit.ActionEvidence, map[string]any{"matching_events": b.Matching,
			"excluded_events": b.Excluded, "manifest_sha256": hex.EncodeToString(b.Manifest[:])}
	case kindExport:
		n, sum, err := export.Stream(ctx, t.Events().All, to,
			export.Options{Tenant: w.Tenant, Format: in.Format, Filter: f})
		if err != nil {
			return nil, err
		}
		action, said = audit.ActionExport, map[string]any{"events": n, "sha256": sum}
	case kindVerification:
		findings := []verify.Finding{}
		v, err := verify.Run(ctx, s.c.Evidence,
			verify.Options{Tenant: &w.Tenant, Anchor: s.c.Anchor, Floor: s.c.Floor,
				OnFinding: func(f verify.Finding) {
					if len(findings) < maxFindings {
						findings = append(findings, f)
					}
				}})
		if err != nil {
			return nil, err
		}
		action, said = audit.ActionVerify, map[string]any{"holds": v.OK(), "report": v, "findings": findings}
	}
	return said, t.Record(ctx, w, action, map[string]any{"wanted": in, "made": said})
}

// maxFindings is the largest number of findings in a verification's result.
const maxFindings = 1000

// filter converts the request into the trail's filter.
func (in *CreateTaskRequest) filter() (f audit.Filter, err error) {
	if f.Since, err = optionalTime("body.since", in.Since); err == nil {
		f.Until, err = optionalTime("body.until", in.Until)
	}
	if err == nil {
		f.AgentID, err = optionalID("body.agent_id", in.Agent)
	}
	if in.User != nil {
		f.UserID = *in.User
	}
	if in.Action != nil {
		f.Action = *in.Action
	}
	if len(in.Metadata) > 0 {
		f.Metadata = in.Metadata.parsed()
	}
	return f, err
}

// contentName returns a download's file name and media type.
func contentName(f artifact.File) (name, kind string) {
	if f.Kind == kindBundle {
		return "bundle-" + f.ID.String() + ".zip", "application/zip"
	}
	var in CreateTaskRequest
	_ = json.Unmarshal(f.Options, &in) // valid: the task was run with it
	switch in.Format {
	case "csv":
		return "events-" + f.ID.String() + ".csv", "text/csv; charset=utf-8"
	case "parquet":
		return "events-" + f.ID.String() + ".parquet", "application/vnd.apache.parquet"
	}
	return "events-" + f.ID.String() + ".jsonl", "application/x-ndjson"
}
