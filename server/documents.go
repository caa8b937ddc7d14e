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

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/chunk"
	"github.com/konstruct/konstruct/disclosure"
	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/strictjson"
	"github.com/konstruct/konstruct/tenantdb"
)

// DocumentForm is what a client adds to an uploaded document.
type DocumentForm struct {
	Source   string     `json:"source,omitempty" maxLength:"2000"`
	Labels   []string   `json:"labels,omitempty" maxItems:"32"`
	Metadata jsonObject `json:"metadata,omitempty" doc:"Anything else"`
	CollectionsForm
	Agent string `json:"agent_id,omitempty" format:"uuid" doc:"The agent that ingests it"`

	Chunking *chunk.Options `json:"chunking,omitempty" doc:"How it is split; missing: as before, or by its structure"`
}

// CollectionsForm are the collections that an uploaded document joins.
type CollectionsForm struct {
	Collections []string   `json:"collections,omitempty" maxItems:"100" doc:"That it joins: names or ids"`
	Attributes  jsonObject `json:"attributes,omitempty" doc:"Its attributes in these"`
}

// checkChunking refuses what a document can't be split by.
func checkChunking(o *chunk.Options, at string) error {
	if o == nil {
		return nil
	}
	if err := o.Check(); err != nil {
		field, reason, _ := strings.Cut(err.Error(), ": ")
		return fieldProblem(at+".chunking."+field, reason)
	}
	return nil
}

// DocumentQueued names the job that ingests a document.
type DocumentQueued struct {
	JobID uuid.UUID `json:"job_id"`
}

// checkLabels refuses labels that the uploader does not have.
func checkLabels(w access.Principal, labels []string, at string) error {
	if name, lacks := w.Labels().Missing(labels); lacks {
		return permissionDenied(at+".labels",
			fmt.Sprintf("%.120q is not granted to you, so you can't set it: omit it, or ask an administrator", name))
	}
	return nil
}

// enqueue creates the ingest job of a document. seq is its position among uploads and deletions; 0 is the newest.
func (s *Server) enqueue(ctx context.Context, w access.Principal, filename string, content []byte, a DocumentForm,
	seq int64, at string) (*Created[DocumentQueued], error) {
	var said *uuid.UUID
	if a.Agent != "" {
		id, err := uuid.Parse(a.Agent)
		if err != nil {
			return nil, fieldProblem(at+".agent_id", "it is not a UUID")
		}
		said = &id
	}
	as, err := agentID(w, said, at+".agent_id")
	if err != nil {
		return nil, err
	}
	if a.Source == "" {
		a.Source = "upload:" + filename
	}
	collections, err := s.findCollections(ctx, w, a.Collections, at)
	if err != nil {
		return nil, err
	}
	u := konstruct.Upload{Source: a.Source, Filename: filename, Content: content, Seq: seq,
		DocumentOptions: kb.DocumentOptions{Labels: a.Labels, Metadata: a.Metadata.parsed(), Chunking: a.Chunking,
			Collections: collections, Attributes: a.Attributes.parsed()}}
	if err := u.Check(); err != nil {
		field, reason, _ := strings.Cut(err.Error(), ": ")
		return nil, fieldProblem(at+"."+field, reason)
	}
	if err := checkLabels(w, a.Labels, at); err != nil {
		return nil, err
	}
	if err := s.documentRoom(ctx, w, 1); err != nil {
		return nil, err
	}
	ids, err := s.agent(w, as).Enqueue(ctx, u)
	if grant := (*tenantdb.GrantError)(nil); errors.As(err, &grant) {
		err = permissionDenied(at+"."+grant.Field, grant.Reason)
	}
	if err != nil {
		return nil, err
	}
	return &Created[DocumentQueued]{Location: "/v1/jobs/" + ids[0].String(), Body: DocumentQueued{ids[0]}}, nil
}

// documentRoom refuses so many more documents where the tenant would have more than it may.
func (s *Server) documentRoom(ctx context.Context, w access.Principal, more int) error {
	limits, err := s.meter.Limits(ctx, w.Tenant)
	if err != nil || limits.Documents == 0 || more == 0 {
		return err
	}
	every := tenantdb.Trusted(ctx) // count documents too that the principal can't see
	n, err := kb.CountDocuments(every, s.c.Konstruct.Door(), w.Tenant)
	if err != nil {
		return err
	}
	jobs, err := s.tenant(w).Jobs().Count(every)
	if err != nil {
		return err
	}
	if n += jobs[kb.JobQueued]; int64(n+more) > limits.Documents {
		s.quotas.refused(w.Tenant, quotaDocuments)
		return problem(http.StatusForbidden,
			"this tenant has %d documents, and %d is its limit: delete some, or ask the operator for more", n,
			limits.Documents)
	}
	return nil
}

func (s *Server) documents() {
	op := func(id, method, path, summary string, status int) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary,
			Tags: []string{"Documents"}, DefaultStatus: status}
	}
	upload := op("createDocument", "POST", "/v1/documents", "Upload a document; a job ingests it", 202)
	upload.Middlewares = huma.Middlewares{s.parseForm}
	upload.Description = fmt.Sprintf("At most %d MiB; upload larger ones in pieces (POST /v1/uploads).", maxUpload>>20)
	register(s, upload, access.KBWrite, func(ctx context.Context, w access.Principal, in *struct {
		RawBody huma.MultipartFormFiles[struct {
			File     huma.FormFile `form:"file" required:"true" doc:"Its type is detected from its content"`
			Source   string        `form:"source" required:"false" maxLength:"2000" doc:"URL that identifies it"`
			Labels   []string      `form:"labels" required:"false" maxItems:"32" doc:"Access control labels"`
			Metadata string        `form:"metadata" required:"false" maxLength:"65536" doc:"A JSON object"`

			Collections []string `form:"collections" required:"false" maxItems:"100" doc:"That it joins: names or ids"`
			Attributes  string   `form:"attributes" required:"false" maxLength:"65536" doc:"In these: a JSON object"`

			Chunking string `form:"chunking" required:"false" maxLength:"200" doc:"How it is split, as JSON"`

			Agent string `form:"agent_id" required:"false" format:"uuid"`
		}]
	}) (*Created[DocumentQueued], error) {
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
			return nil, problem(http.StatusRequestEntityTooLarge,
				"body.file: it has more than %d MiB: send it in pieces (POST /v1/uploads)", maxUpload>>20)
		}
		a := DocumentForm{Source: form.Source, Labels: form.Labels, Agent: form.Agent,
			CollectionsForm: CollectionsForm{Collections: form.Collections}}
		for _, part := range []struct {
			name, text string
			to         any
		}{{"metadata", form.Metadata, &a.Metadata}, {"attributes", form.Attributes, &a.Attributes},
			{"chunking", form.Chunking, &a.Chunking}} {
			if err := formJSON("body."+part.name, part.text, part.to); err != nil {
				return nil, err
			}
		}
		return s.enqueue(ctx, w, form.File.Filename, content, a, 0, "body")
	})
	register(s,
		op("createDocumentFromURL", "POST", "/v1/documents/from-url", "Ingest a web page by its URL; a job reads it",
			202), access.KBWrite, func(ctx context.Context, w access.Principal, in *struct {
			Body struct {
				URL      string     `json:"url" format:"uri" minLength:"1" maxLength:"2000" pattern:"^https?://"`
				Labels   []string   `json:"labels,omitempty" maxItems:"32" doc:"Access control labels"`
				Metadata jsonObject `json:"metadata,omitempty"`
				CollectionsForm
				Agent string `json:"agent_id,omitempty" format:"uuid"`

				Chunking *chunk.Options `json:"chunking,omitempty" doc:"How it is split"`
			}
		}) (*Created[DocumentQueued], error) {
			b := in.Body
			return s.enqueue(ctx, w, "", nil, DocumentForm{Source: b.URL, Labels: b.Labels, Metadata: b.Metadata,
				CollectionsForm: b.CollectionsForm, Agent: b.Agent, Chunking: b.Chunking}, 0, "body")
		})
	register(s, op("listDocuments", "GET", "/v1/documents", "List documents", 200), access.KBRead,
		func(ctx context.Context, w access.Principal, in *ListParams) (*Response[List[konstruct.Document]], error) {
			after, err := in.afterID()
			if err != nil {
				return nil, err
			}
			docs, err := s.tenant(w).Documents().List(ctx, after, in.Limit)
			return listPage(docs, in.Limit, func(d konstruct.Document) string { return d.ID.String() }), err
		})
	type DocumentWithPassages struct {
		konstruct.Document
		Passages []konstruct.Passage `json:"passages"`
	}
	register(s, op("getDocument", "GET", "/v1/documents/{id}", "Get a document with its chunks", 200), access.KBRead,
		func(ctx context.Context, w access.Principal, in *struct {
			PathID
			IfNoneMatch
		}) (*Cacheable[DocumentWithPassages], error) {
			did, err := in.uuid()
			if err != nil {
				return nil, err
			}
			d, passages, err := s.tenant(w).Documents().Get(ctx, did)
			if err != nil {
				return nil, err
			}
			etag := documentTag(d)
			if err := in.check(etag); err != nil {
				return nil, err
			}
			return &Cacheable[DocumentWithPassages]{etag, DocumentWithPassages{d, passages}}, nil
		})
	register(s,
		op("listDocumentVersions", "GET", "/v1/documents/{id}/versions", "List the earlier versions of a document",
			200), access.KBRead,
		func(ctx context.Context, w access.Principal, in *PathID) (*Response[List[kb.Version]], error) {
			did, err := in.uuid()
			if err != nil {
				return nil, err
			}
			versions, err := s.tenant(w).Documents().Versions(ctx, did)
			return listPage(versions, len(versions)+1, func(kb.Version) string { return "" }), err
		})
	remove := op("deleteDocument", "DELETE", "/v1/documents/{id}", "Delete a document with its chunks and vectors", 200)
	remove.Errors = []int{http.StatusPreconditionFailed}
	register(s, remove, access.KBWrite, func(ctx context.Context, w access.Principal, in *struct {
		PathID
		IfMatch string `header:"If-Match" maxLength:"200" doc:"Its ETag: 412 if it was replaced meanwhile"`
	}) (*Response[EventCreated], error) {
		did, err := in.uuid()
		if err != nil {
			return nil, err
		}
		event, err := s.agent(w, w.Agent).RemoveIf(ctx, did, func(d konstruct.Document) error {
			if in.IfMatch != "" && !tagMatches(in.IfMatch, documentTag(d)) {
				return problem(http.StatusPreconditionFailed,
					"header.If-Match: the document is at version %d now: get it again", d.Version)
			}
			return nil
		})
		return &Response[EventCreated]{EventCreated{ID: &event}}, err
	})
	s.jobs(op)
}

// parseForm parses a form before huma does, which would report a too large one as 422.
func (s *Server) parseForm(ctx huma.Context, next func(huma.Context)) {
	r, _ := humago.Unwrap(ctx)
	var large *http.MaxBytesError
	switch err := r.ParseMultipartForm(formMemory); {
	case errors.As(err, &large):
		s.writeProblem(ctx,
			problem(http.StatusRequestEntityTooLarge,
				"body: it has more than %d MiB: send the file in pieces (POST /v1/uploads)", maxUpload>>20))
	case errors.Is(err, http.ErrNotMultipart):
		s.writeProblem(ctx,
			problem(http.StatusUnsupportedMediaType, "header.Content-Type: it must be multipart/form-data"))
	case err != nil:
		reason, whole := disclosure.Reason(err)
		if !whole {
			s.logger.WarnContext(r.Context(), "a form could not be read", "request", requestID(r.Context()),
				"error", err)
		}
		s.writeProblem(ctx, problem(http.StatusBadRequest, "body: the form can't be read: %s", reason))
	default:
		if err := checkFields(r.MultipartForm); err != nil {
			_ = r.MultipartForm.RemoveAll()
			s.writeProblem(ctx, err)
			return
		}
		next(ctx)
	}
}

// formFields are the fields of an upload form, and whether each may be repeated.
var formFields = map[string]bool{"file": false, "source": false, "labels": true, "metadata": false, "agent_id": false,
	"collections": true, "attributes": false, "chunking": false}

// formJSON reads a form's field that is a JSON object, where it is there.
func formJSON(at, text string, to any) error {
	if text == "" {
		return nil
	}
	if err := strictjson.CheckDuplicates([]byte(text)); err != nil {
		return fieldProblem(at, err.Error())
	}
	if in, what := strictjson.CheckText([]byte(text)); what != "" {
		return fieldProblem(at+in, what)
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields() // of an object that may hold anything there are none
	if err := d.Decode(to); err != nil {
		return fieldProblem(at, err.Error())
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fieldProblem(at, "something follows the JSON object")
	}
	return nil
}

// checkFields refuses what a decoder would silently ignore: unknown fields, repeated fields, and invalid UTF-8.
func checkFields(f *multipart.Form) *Problem {
	var bad []FieldProblem
	check := func(name string, n int) {
		again, known := formFields[name]
		switch {
		case !known:
			bad = append(bad,
				FieldProblem{fmt.Sprintf("body.%.80s", name),
					"there is no such field: there are file, source, labels, metadata, collections, attributes, " +
						"chunking and agent_id"})
		case n > 1 && !again:
			bad = append(bad, FieldProblem{"body." + name, "it is repeated"})
		}
	}
	for name, values := range f.Value {
		check(name, len(values))
		for _, v := range values {
			if reason := unstorable(v); reason != "" {
				bad = append(bad, FieldProblem{fmt.Sprintf("body.%.80s", name), reason})
			}
		}
	}
	for name, files := range f.File {
		check(name, len(files))
		if _, known := formFields[name]; known && name != "file" {
			bad = append(bad, FieldProblem{"body." + name, "it is a file, and must be text"})
		}
		for _, file := range files {
			if reason := unstorable(file.Filename); reason != "" {
				bad = append(bad, FieldProblem{"body." + name, "its file name: " + reason})
			}
		}
	}
	if len(bad) == 0 {
		return nil
	}
	slices.SortFunc(bad, func(a, b FieldProblem) int { return strings.Compare(a.Location, b.Location) })
	return fieldProblems(bad)
}

// formMemory is how many bytes of a form are kept in memory; the rest goes to temporary files.
const formMemory = 1 << 20

// tagMatches reports whether an If-Match header names an ETag (RFC 9110, 13.1.1).
func tagMatches(header, etag string) bool {
	for tag := range strings.SplitSeq(header, ",") {
		if tag = strings.TrimSpace(tag); tag == etag || tag == "*" {
			return true
		}
	}
	return false
}

func documentTag(d konstruct.Document) string {
	return fmt.Sprintf(`"%s-%d-%.16s"`, d.ID, d.Version, d.SHA256)
}

// jobs registers the operations on ingest jobs.
func (s *Server) jobs(op func(id, method, path, summary string, status int) huma.Operation) {
	register(s, op("listJobs", "GET", "/v1/jobs", "List ingest jobs", 200), access.KBRead,
		func(ctx context.Context, w access.Principal, in *struct {
			ListParams
			State string `query:"state" enum:"queued,running,done,failed,cancelled"`
		}) (*Response[List[konstruct.Job]], error) {
			after, err := in.afterID()
			if err != nil {
				return nil, err
			}
			jobs, err := s.tenant(w).Jobs().List(ctx, kb.JobState(in.State), after, in.Limit)
			return listPage(jobs, in.Limit, func(j konstruct.Job) string { return j.ID.String() }), err
		})
	register(s, op("getJob", "GET", "/v1/jobs/{id}", "Get an ingest job", 200), access.KBRead,
		func(ctx context.Context, w access.Principal, in *PathID) (*Response[konstruct.Job], error) {
			jid, err := in.uuid()
			if err != nil {
				return nil, err
			}
			j, err := s.tenant(w).Jobs().Get(ctx, jid)
			return &Response[konstruct.Job]{j}, err
		})
	type JobsChanged struct {
		Jobs int `json:"jobs" doc:"How many"`
	}
	for _, act := range []struct {
		name, summary string
		do            func(konstruct.Jobs, context.Context, ...uuid.UUID) (int, error)
	}{
		{"cancel", "Cancel queued or running jobs", konstruct.Jobs.Cancel}, {"retry", "Retry failed jobs",
			konstruct.Jobs.Retry}, {"delete", "Delete finished jobs", konstruct.Jobs.Delete},
	} {
		register(s, op(act.name+"Jobs", "POST", "/v1/jobs/"+act.name, act.summary, 200), access.KBWrite,
			func(ctx context.Context, w access.Principal, in *struct {
				Body struct {
					IDs []uuid.UUID `json:"ids" minItems:"1" maxItems:"1000"`
				}
			}) (*Response[JobsChanged], error) {
				n, err := act.do(s.tenant(w).Jobs(), ctx, in.Body.IDs...)
				return &Response[JobsChanged]{JobsChanged{n}}, err
			})
	}
}
