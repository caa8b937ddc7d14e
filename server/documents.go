package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/disclosure"
	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/tenantdb"
)

// About is what whoever takes a document in says of it.
type About struct {
	Source   string   `json:"source,omitempty" maxLength:"2000" doc:"The URL by which it is known again: what has the same source replaces it. upload:FILENAME where it is missing"`
	Labels   []string `json:"labels,omitempty" maxItems:"32" doc:"Who may see it: those who have one of these. Everybody of the tenant where there are none. You can't put on what you do not have"`
	Metadata object   `json:"metadata,omitempty" doc:"Anything else"`
	Agent    string   `json:"agent_id,omitempty" format:"uuid" doc:"Which agent takes it in"`
}

// queued says which job takes a document in.
type queued struct {
	JobID uuid.UUID `json:"job_id"`
}

// mayGive refuses labels on a document that whoever hands it over does not have.
func mayGive(w access.Who, labels []string, at string) error {
	if name, lacks := w.Labels().Lacks(labels); lacks {
		return denied(at+".labels", fmt.Sprintf("%.120q is not granted to you, so you can't put it on: leave it out, or ask for it", name))
	}
	return nil
}

// enqueue hands a document over, at a place in the order of uploads and deletions; 0 is the newest.
func (s *Server) enqueue(ctx context.Context, w access.Who, filename string, content []byte, a About, seq int64, at string) (*made[queued], error) {
	var said *uuid.UUID
	if a.Agent != "" {
		id, err := uuid.Parse(a.Agent)
		if err != nil {
			return nil, wrong(at+".agent_id", "it is no UUID")
		}
		said = &id
	}
	as, err := agent(w, said, at+".agent_id")
	if err != nil {
		return nil, err
	}
	if a.Source == "" {
		a.Source = "upload:" + filename
	}
	u := konstruct.Upload{Source: a.Source, Filename: filename, Content: content, Seq: seq, Given: kb.Given{Labels: a.Labels, Metadata: a.Metadata.parsed()}}
	if err := u.Check(); err != nil {
		field, reason, _ := strings.Cut(err.Error(), ": ")
		return nil, wrong(at+"."+field, reason)
	}
	if err := mayGive(w, a.Labels, at); err != nil {
		return nil, err
	}
	limits, err := s.meter.Limits(ctx, w.Tenant)
	if err != nil {
		return nil, err
	}
	if limits.Documents > 0 {
		every := tenantdb.Trusted(ctx) // those that whoever asks does not see count too
		n, err := kb.CountDocuments(every, s.c.Konstruct.Door(), w.Tenant)
		if err != nil {
			return nil, err
		}
		jobs, err := s.of(w).CountJobs(every)
		if err != nil {
			return nil, err
		}
		if int64(n+jobs[kb.Waiting]) >= limits.Documents {
			return nil, problem(http.StatusForbidden, "this tenant has %d documents, as many as it may: delete some, or ask the operator for more", n+jobs[kb.Waiting])
		}
	}
	ids, err := s.as(w, as).Enqueue(ctx, u)
	if grant := (*tenantdb.GrantError)(nil); errors.As(err, &grant) {
		err = denied(at+"."+grant.Field, grant.Reason)
	}
	if err != nil {
		return nil, err
	}
	return &made[queued]{Location: "/v1/jobs/" + ids[0].String(), Body: queued{ids[0]}}, nil
}

func (s *Server) documents() {
	op := func(id, method, path, summary string, status int) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, Tags: []string{"Knowledge base"}, DefaultStatus: status}
	}
	upload := op("upload-document", "POST", "/v1/documents", "Hand a document over: it is taken in by a job", 202)
	upload.Middlewares = huma.Middlewares{s.form}
	upload.Description = fmt.Sprintf("At most %d MiB; larger ones come in pieces (POST /v1/uploads).", maxUpload>>20)
	add(s, upload, access.KBWrite, func(ctx context.Context, w access.Who, in *struct {
		RawBody huma.MultipartFormFiles[struct {
			File     huma.FormFile `form:"file" required:"true" doc:"The file; what kind it is is found out from its content"`
			Source   string        `form:"source" required:"false" maxLength:"2000" doc:"The URL by which it is known again"`
			Labels   []string      `form:"labels" required:"false" maxItems:"32" doc:"Who may see it: those who have one of these"`
			Metadata string        `form:"metadata" required:"false" maxLength:"65536" doc:"A JSON object"`
			Agent    string        `form:"agent_id" required:"false" format:"uuid"`
		}]
	}) (*made[queued], error) {
		form := in.RawBody.Data()
		defer in.RawBody.Form.RemoveAll()
		defer form.File.Close()
		release, err := s.fileMemory(ctx, w.Tenant, min(form.File.Size, maxUpload))
		if err != nil {
			return nil, err
		}
		defer release()
		content, err := readSized(io.LimitReader(form.File, maxUpload+1), form.File.Size)
		if err != nil {
			return nil, err
		}
		if len(content) > maxUpload {
			return nil, problem(http.StatusRequestEntityTooLarge, "body.file: it has more than %d MiB: send it in pieces (POST /v1/uploads)", maxUpload>>20)
		}
		a := About{Source: form.Source, Labels: form.Labels, Agent: form.Agent}
		if form.Metadata != "" {
			if err := unambiguous([]byte(form.Metadata)); err != nil {
				return nil, wrong("body.metadata", err.Error())
			}
			if at, what := faithful([]byte(form.Metadata)); what != "" {
				return nil, wrong("body.metadata"+at, what)
			}
			if err := json.Unmarshal([]byte(form.Metadata), &a.Metadata); err != nil {
				return nil, wrong("body.metadata", err.Error())
			}
		}
		return s.enqueue(ctx, w, form.File.Filename, content, a, 0, "body")
	})
	add(s, op("add-page", "POST", "/v1/documents/from-url", "Hand a page over by its URL: it is read by a job", 202), access.KBWrite, func(ctx context.Context, w access.Who, in *struct {
		Body struct {
			URL      string   `json:"url" format:"uri" minLength:"1" maxLength:"2000" pattern:"^https?://"`
			Labels   []string `json:"labels,omitempty" maxItems:"32" doc:"Who may see it: those who have one of these"`
			Metadata object   `json:"metadata,omitempty"`
			Agent    string   `json:"agent_id,omitempty" format:"uuid"`
		}
	}) (*made[queued], error) {
		b := in.Body
		return s.enqueue(ctx, w, "", nil, About{Source: b.URL, Labels: b.Labels, Metadata: b.Metadata, Agent: b.Agent}, 0, "body")
	})
	add(s, op("list-documents", "GET", "/v1/documents", "List documents", 200), access.KBRead, func(ctx context.Context, w access.Who, in *ByID) (*answer[many[konstruct.Document]], error) {
		after, err := in.from()
		if err != nil {
			return nil, err
		}
		docs, err := s.of(w).Documents(ctx, after, in.Limit)
		return listed(docs, in.Limit, func(d konstruct.Document) string { return d.ID.String() }), err
	})
	type whole struct {
		konstruct.Document
		Passages []konstruct.Passage `json:"passages"`
	}
	add(s, op("get-document", "GET", "/v1/documents/{id}", "Get a document and its passages", 200), access.KBRead, func(ctx context.Context, w access.Who, in *struct {
		Identified
		Unless
	}) (*tagged[whole], error) {
		did, err := in.uuid()
		if err != nil {
			return nil, err
		}
		d, passages, err := s.of(w).Document(ctx, did)
		if err != nil {
			return nil, err
		}
		etag := documentTag(d)
		if err := in.same(etag); err != nil {
			return nil, err
		}
		return &tagged[whole]{etag, whole{d, passages}}, nil
	})
	add(s, op("list-versions", "GET", "/v1/documents/{id}/versions", "List what a document was before it was replaced", 200), access.KBRead, func(ctx context.Context, w access.Who, in *Identified) (*answer[many[kb.Version]], error) {
		did, err := in.uuid()
		if err != nil {
			return nil, err
		}
		versions, err := s.of(w).Versions(ctx, did)
		return listed(versions, len(versions)+1, func(kb.Version) string { return "" }), err
	})
	remove := op("delete-document", "DELETE", "/v1/documents/{id}", "Delete a document, with its passages and vectors", 200)
	remove.Errors = []int{http.StatusPreconditionFailed}
	add(s, remove, access.KBWrite, func(ctx context.Context, w access.Who, in *struct {
		Identified
		IfMatch string `header:"If-Match" maxLength:"200" doc:"Its ETag: 412 where it was replaced meanwhile"`
	}) (*answer[logged], error) {
		did, err := in.uuid()
		if err != nil {
			return nil, err
		}
		if in.IfMatch != "" && in.IfMatch != "*" {
			d, _, err := s.of(w).Document(ctx, did)
			if err != nil {
				return nil, err
			}
			if documentTag(d) != in.IfMatch {
				return nil, problem(http.StatusPreconditionFailed, "header.If-Match: the document is at version %d now: look at it again", d.Version)
			}
		}
		event, err := s.as(w, w.Agent).Remove(ctx, did)
		return &answer[logged]{logged{ID: &event}}, err
	})
	s.jobs(op)
}

// form reads a form before huma does, which would call one that is too large unprocessable.
func (s *Server) form(ctx huma.Context, next func(huma.Context)) {
	r, _ := humago.Unwrap(ctx)
	var large *http.MaxBytesError
	switch err := r.ParseMultipartForm(formMemory); {
	case errors.As(err, &large):
		s.fail(ctx, problem(http.StatusRequestEntityTooLarge, "body: it has more than %d MiB: send the file in pieces (POST /v1/uploads)", maxUpload>>20))
	case errors.Is(err, http.ErrNotMultipart):
		s.fail(ctx, problem(http.StatusUnsupportedMediaType, "header.Content-Type: it must be multipart/form-data"))
	case err != nil:
		reason, whole := disclosure.Reason(err)
		if !whole {
			s.logger.WarnContext(r.Context(), "a form could not be read", "request", requestID(r.Context()),
				"error", err)
		}
		s.fail(ctx, problem(http.StatusBadRequest, "body: it is no form that can be read: %s", reason))
	default:
		if err := knownFields(r.MultipartForm); err != nil {
			_ = r.MultipartForm.RemoveAll()
			s.fail(ctx, err)
			return
		}
		next(ctx)
	}
}

// formFields are an upload's, and whether one may stand more than once.
var formFields = map[string]bool{"file": false, "source": false, "labels": true, "metadata": false, "agent_id": false}

// knownFields refuses what a decoder would pass over without a word: a field that is none, or stands twice; and text that is none.
func knownFields(f *multipart.Form) *Problem {
	var bad []Wrong
	check := func(name string, n int) {
		again, known := formFields[name]
		switch {
		case !known:
			bad = append(bad, Wrong{fmt.Sprintf("body.%.80s", name), "there is no such field: there are file, source, labels, metadata and agent_id"})
		case n > 1 && !again:
			bad = append(bad, Wrong{"body." + name, "it stands more than once"})
		}
	}
	for name, values := range f.Value {
		check(name, len(values))
		for _, v := range values {
			if !utf8.ValidString(v) {
				bad = append(bad, Wrong{fmt.Sprintf("body.%.80s", name), "it is not UTF-8"})
			}
		}
	}
	for name, files := range f.File {
		check(name, len(files))
		if _, known := formFields[name]; known && name != "file" {
			bad = append(bad, Wrong{"body." + name, "it is a file, and must be text"})
		}
		for _, file := range files {
			if !utf8.ValidString(file.Filename) {
				bad = append(bad, Wrong{"body." + name, "its file name is not UTF-8"})
			}
		}
	}
	if len(bad) == 0 {
		return nil
	}
	slices.SortFunc(bad, func(a, b Wrong) int { return strings.Compare(a.Location, b.Location) })
	return allWrong(bad)
}

// formMemory is how much of a form is held in memory; the rest is in files that go with the request.
const formMemory = 1 << 20

func documentTag(d konstruct.Document) string {
	return fmt.Sprintf(`"%s-%d-%.16s"`, d.ID, d.Version, d.SHA256)
}

// jobs serves what was handed over.
func (s *Server) jobs(op func(id, method, path, summary string, status int) huma.Operation) {
	add(s, op("list-jobs", "GET", "/v1/jobs", "List what was handed over to be taken in", 200), access.KBRead, func(ctx context.Context, w access.Who, in *struct {
		ByID
		State string `query:"state" enum:"waiting,running,done,failed,cancelled"`
	}) (*answer[many[konstruct.Job]], error) {
		after, err := in.from()
		if err != nil {
			return nil, err
		}
		jobs, err := s.of(w).Jobs(ctx, kb.State(in.State), after, in.Limit)
		return listed(jobs, in.Limit, func(j konstruct.Job) string { return j.ID.String() }), err
	})
	add(s, op("get-job", "GET", "/v1/jobs/{id}", "See how far one is", 200), access.KBRead, func(ctx context.Context, w access.Who, in *Identified) (*answer[konstruct.Job], error) {
		jid, err := in.uuid()
		if err != nil {
			return nil, err
		}
		j, err := s.of(w).Job(ctx, jid)
		return &answer[konstruct.Job]{j}, err
	})
	type changed struct {
		Jobs int `json:"jobs" doc:"How many"`
	}
	for _, act := range []struct {
		name, summary string
		do            func(*konstruct.Tenant, context.Context, ...uuid.UUID) (int, error)
	}{
		{"cancel", "End jobs that wait or run", (*konstruct.Tenant).CancelJobs}, {"retry", "Have jobs tried again that failed", (*konstruct.Tenant).RetryJobs}, {"forget", "Delete jobs that ended", (*konstruct.Tenant).ForgetJobs},
	} {
		add(s, op(act.name+"-jobs", "POST", "/v1/jobs/"+act.name, act.summary, 200), access.KBWrite, func(ctx context.Context, w access.Who, in *struct {
			Body struct {
				IDs []uuid.UUID `json:"ids" minItems:"1" maxItems:"1000"`
			}
		}) (*answer[changed], error) {
			n, err := act.do(s.of(w), ctx, in.Body.IDs...)
			return &answer[changed]{changed{n}}, err
		})
	}
}
