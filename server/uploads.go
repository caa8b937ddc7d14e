package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/google/uuid"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/artifact"
	"github.com/konstruct/konstruct/extract"
	"github.com/konstruct/konstruct/kb"
)

// kindUpload is the kind of uploads in pieces.
const kindUpload = "upload"

// CreateUploadRequest starts an upload in pieces.
type CreateUploadRequest struct {
	Filename string `json:"filename" minLength:"1" maxLength:"1000"`
	Size     int64  `json:"size" minimum:"1" doc:"Size of the file, in bytes"`
	DocumentForm
}

// uploadOptions are the stored options of an upload in pieces.
type uploadOptions struct {
	CreateUploadRequest
	// Seq is the upload's position when it began: a deletion during the upload outranks it.
	Seq int64 `json:"seq"`
}

// Upload is the state of an upload.
type Upload struct {
	ID     uuid.UUID `json:"id"`
	Size   int64     `json:"size"`
	Offset int64     `json:"offset" doc:"Bytes received: continue from there"`
}

// uploadOffset is the response to an appended piece.
type uploadOffset struct {
	Offset int64 `header:"Upload-Offset" doc:"Bytes received"`
}

func (s *Server) uploads() {
	op := func(id, method, path, summary string, status int) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary,
			Tags: []string{"Documents"}, DefaultStatus: status}
	}
	register(s, op("createUpload", "POST", "/v1/uploads", "Start an upload in pieces", 201), access.KBWrite,
		func(ctx context.Context, w access.Principal,
			in *struct{ Body CreateUploadRequest }) (*Created[Upload], error) {
			if in.Body.Size > extract.MaxPDF {
				return nil, problem(http.StatusRequestEntityTooLarge, "body.size: the largest document has %d bytes",
					extract.MaxPDF)
			}
			if err := checkLabels(w, in.Body.Labels, "body"); err != nil {
				return nil, err
			}
			if err := checkChunking(in.Body.Chunking, "body"); err != nil {
				return nil, err
			}
			seq, err := kb.NextSeq(ctx, s.c.Konstruct.Door(), w.Tenant)
			if err != nil {
				return nil, err
			}
			f, err := s.artifacts.Create(ctx, w.Tenant, kindUpload, uploadOptions{in.Body, seq}, in.Body.Labels,
				&in.Body.Size)
			return &Created[Upload]{Location: "/v1/uploads/" + f.ID.String(), Body: Upload{f.ID, in.Body.Size, 0}}, err
		})
	find := func(ctx context.Context, w access.Principal, in PathID) (artifact.File, error) {
		fid, err := in.uuid()
		if err != nil {
			return artifact.File{}, err
		}
		f, err := s.artifacts.Get(ctx, w.Tenant, fid)
		if err == nil && f.Kind != kindUpload {
			err = artifact.ErrNotFound
		}
		return f, err
	}
	register(s, op("getUpload", "GET", "/v1/uploads/{id}", "Get the state of an upload", 200), access.KBWrite,
		func(ctx context.Context, w access.Principal, in *PathID) (*Response[Upload], error) {
			f, err := find(ctx, w, *in)
			if err != nil {
				return nil, err
			}
			return &Response[Upload]{Upload{f.ID, *f.Size, f.Stored}}, nil
		})
	piece := op("appendUpload", "PATCH", "/v1/uploads/{id}", "Append a piece to an upload", 204)
	piece.RequestBody = &huma.RequestBody{Required: true,
		Content: map[string]*huma.MediaType{
			"application/octet-stream": {Schema: &huma.Schema{Type: "string", Format: "binary"}}}}
	piece.Middlewares = huma.Middlewares{passBody}
	piece.Responses = map[string]*huma.Response{"204": {Description: "It was received",
		Headers: map[string]*huma.Param{"Upload-Offset": {Schema: &huma.Schema{Type: "integer"}}}}}
	register(s, piece, access.KBWrite, func(ctx context.Context, w access.Principal, in *struct {
		PathID
		ContentType string `header:"Content-Type"`
		Offset      int64  `header:"Upload-Offset" required:"true" minimum:"0" doc:"Offset of the piece, in bytes"`
	}) (*uploadOffset, error) {
		f, err := find(ctx, w, in.PathID)
		if err != nil {
			return nil, err
		}
		if in.ContentType != "application/octet-stream" && in.ContentType != "application/offset+octet-stream" {
			// the second is that of tus
			return nil, problem(http.StatusUnsupportedMediaType,
				"header.Content-Type: it must be application/octet-stream")
		}
		r, _ := ctx.Value(bodyKey).(*http.Request)
		n, err := s.artifacts.Append(ctx, w.Tenant, f.ID, in.Offset, io.LimitReader(r.Body, *f.Size+1))
		return &uploadOffset{n}, err
	})
	finish := op("completeUpload", "POST", "/v1/uploads/{id}/finish", "Complete an upload; a job ingests it", 202)
	register(s, finish, access.KBWrite,
		func(ctx context.Context, w access.Principal, in *PathID) (*Created[DocumentQueued], error) {
			f, err := find(ctx, w, *in)
			if err != nil {
				return nil, err
			}
			if f.Stored != *f.Size {
				return nil, problem(http.StatusConflict, "%d of %d bytes were received: send the rest first",
					f.Stored, *f.Size)
			}
			var c uploadOptions
			if err := json.Unmarshal(f.Options, &c); err != nil {
				return nil, err
			}
			release, err := s.fileMemory(ctx, w.Tenant, *f.Size)
			if err != nil {
				return nil, err
			}
			defer release()
			content, err := readSized(s.artifacts.Read(ctx, w.Tenant, f), *f.Size)
			if err != nil {
				return nil, err
			}
			out, err := s.enqueue(ctx, w, c.Filename, content, c.DocumentForm, c.Seq, "upload")
			if err != nil {
				return nil, err
			}
			if err := s.artifacts.Delete(ctx, w.Tenant, f.ID); err != nil {
				return nil, fmt.Errorf("the document is enqueued as job %s, but its pieces stay: %w",
					out.Body.JobID, err)
			}
			return out, nil
		})
	remove := op("deleteUpload", "DELETE", "/v1/uploads/{id}", "Cancel an upload", 204)
	register(s, remove, access.KBWrite, func(ctx context.Context, w access.Principal, in *PathID) (*NoContent, error) {
		f, err := find(ctx, w, *in)
		if err != nil {
			return nil, err
		}
		return nil, s.artifacts.Delete(ctx, w.Tenant, f.ID)
	})
}

// passBody gives a handler the request, whose body it reads itself.
func passBody(ctx huma.Context, next func(huma.Context)) {
	r, _ := humago.Unwrap(ctx)
	next(huma.WithValue(ctx, bodyKey, r))
}
