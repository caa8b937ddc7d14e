package server

import (
	"context"
	"fmt"
	"net/http"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/files"
)

// openAIUpload is an upload of parts.
type openAIUpload struct {
	ID        string      `json:"id"`
	Object    string      `json:"object"`
	Bytes     int64       `json:"bytes"`
	CreatedAt int64       `json:"created_at"`
	ExpiresAt int64       `json:"expires_at"`
	Filename  string      `json:"filename"`
	Purpose   string      `json:"purpose"`
	Status    string      `json:"status"`
	File      *openAIFile `json:"file"`
}

func newOpenAIUpload(u files.Upload) openAIUpload {
	return openAIUpload{ID: openAIID(uploadPrefix, u.ID), Object: "upload", Bytes: u.Bytes,
		CreatedAt: u.CreatedAt.Unix(), ExpiresAt: u.ExpiresAt.Unix(), Filename: u.Filename, Purpose: u.Purpose,
		Status: string(u.State)}
}

// openAIPart is a part of an upload.
type openAIPart struct {
	ID        string `json:"id"`
	Object    string `json:"object"`
	CreatedAt int64  `json:"created_at"`
	UploadID  string `json:"upload_id"`
}

func (s *Server) openAIUploads() {
	s.openAI("POST uploads", access.KBWrite, s.createOpenAIUpload)
	s.openAI("POST uploads/{upload}/parts", access.KBWrite, s.addOpenAIPart)
	s.openAI("POST uploads/{upload}/complete", access.KBWrite,
		func(ctx context.Context, w access.Principal, r *http.Request) (any, error) {
			id, err := pathID(r, "upload", uploadPrefix)
			if err != nil {
				return nil, err
			}
			var in struct {
				PartIDs []string `json:"part_ids"`
				MD5     string   `json:"md5"`
			}
			if err := readOpenAI(r, &in); err != nil {
				return nil, err
			}
			if len(in.PartIDs) > files.MaxParts {
				return nil, openAIField("part_ids", fmt.Sprintf("there are %d, the limit is %d", len(in.PartIDs),
					files.MaxParts))
			}
			parts := make([]uuid.UUID, len(in.PartIDs))
			for i, one := range in.PartIDs {
				if parts[i], err = parseOpenAIID(partPrefix, one); err != nil {
					return nil, openAIField(fmt.Sprintf("part_ids[%d]", i), "the upload has no such part")
				}
			}
			if err := s.fileRoom(ctx, w); err != nil {
				return nil, err
			}
			u, f, err := s.files.Complete(ctx, w.Tenant, id, parts, in.MD5)
			if err != nil {
				return nil, err
			}
			out := newOpenAIUpload(u)
			out.File = new(newOpenAIFile(f))
			return out, nil
		})
	s.openAI("POST uploads/{upload}/cancel", access.KBWrite,
		func(ctx context.Context, w access.Principal, r *http.Request) (any, error) {
			id, err := pathID(r, "upload", uploadPrefix)
			if err == nil {
				err = readOpenAI(r, &struct{}{})
			}
			if err != nil {
				return nil, err
			}
			u, err := s.files.Cancel(ctx, w.Tenant, id)
			return newOpenAIUpload(u), err
		})
}

// createOpenAIUpload makes room for a file that comes in parts.
func (s *Server) createOpenAIUpload(ctx context.Context, w access.Principal, r *http.Request) (any, error) {
	var in struct {
		Bytes        int64    `json:"bytes"`
		Filename     string   `json:"filename"`
		MimeType     string   `json:"mime_type"` // its type is detected from its content
		Purpose      string   `json:"purpose"`
		Labels       []string `json:"labels"`
		ExpiresAfter *struct {
			Anchor  string `json:"anchor"`
			Seconds int64  `json:"seconds"`
		} `json:"expires_after"`
	}
	if err := readOpenAI(r, &in); err != nil {
		return nil, err
	}
	switch {
	case in.Bytes < 1:
		return nil, openAIField("bytes", fmt.Sprintf("%d: it is 1 to %d", in.Bytes, files.MaxBytes))
	case in.Bytes > files.MaxBytes:
		p := openAIField("bytes", fmt.Sprintf("%d: the limit is %d", in.Bytes, files.MaxBytes))
		p.Status = http.StatusRequestEntityTooLarge
		return nil, p
	case in.MimeType == "":
		return nil, openAIField("mime_type", "it is missing")
	}
	anchor, seconds := "", int64(0)
	if in.ExpiresAfter != nil {
		anchor, seconds = in.ExpiresAfter.Anchor, in.ExpiresAfter.Seconds
	}
	o, err := fileOptions(w, in.Filename, in.Purpose, anchor, seconds, in.Labels)
	if err != nil {
		return nil, err
	}
	u, err := s.files.CreateUpload(ctx, w.Tenant, o, in.Bytes)
	return newOpenAIUpload(u), err
}

// addOpenAIPart stores a part of an upload.
func (s *Server) addOpenAIPart(ctx context.Context, w access.Principal, r *http.Request) (any, error) {
	id, err := pathID(r, "upload", uploadPrefix)
	if err != nil {
		return nil, err
	}
	part, err := repeatedID(r, w)
	if err != nil {
		return nil, err
	}
	form, err := newOpenAIForm(r, "data", nil)
	if err != nil {
		return nil, err
	}
	data, err := form.next()
	if err != nil {
		return nil, err
	}
	if data == nil {
		return nil, openAIField("data", "it is missing")
	}
	p, err := s.files.AddPart(ctx, w.Tenant, id, part, formReader{data})
	if err == nil {
		err = form.finish()
	}
	return openAIPart{
		openAIID(partPrefix, p.ID),
		"upload.part",
		p.CreatedAt.Unix(),
		openAIID(uploadPrefix, p.Upload),
	}, err
}
