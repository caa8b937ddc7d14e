package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/files"
	"github.com/konstruct/konstruct/kb"
	"github.com/konstruct/konstruct/tenantdb"
)

// openAIFile is a file.
type openAIFile struct {
	ID            string  `json:"id"`
	Object        string  `json:"object"`
	Bytes         int64   `json:"bytes"`
	CreatedAt     int64   `json:"created_at"`
	ExpiresAt     *int64  `json:"expires_at"`
	Filename      string  `json:"filename"`
	Purpose       string  `json:"purpose"`
	Status        string  `json:"status"` // deprecated by OpenAI, and required by its clients
	StatusDetails *string `json:"status_details"`
}

func newOpenAIFile(f files.File) openAIFile {
	out := openAIFile{ID: fileID(f.ID), Object: "file", Bytes: f.Bytes, CreatedAt: f.CreatedAt.Unix(),
		Filename: f.Filename, Purpose: f.Purpose, Status: "processed"}
	if f.ExpiresAt != nil {
		out.ExpiresAt = new(f.ExpiresAt.Unix())
	}
	return out
}

// newDocumentFile is a document that was made of no file, as a file.
func newDocumentFile(d konstruct.Document) openAIFile {
	return openAIFile{ID: fileID(d.ID), Object: "file", Bytes: d.Bytes, CreatedAt: d.IngestedAt.Unix(),
		Filename: d.Filename, Purpose: purposes[0], Status: "processed"}
}

// purposes are those that OpenAI knows. Here a file is kept, and can be attached, whatever it is for.
var purposes = []string{"assistants", "assistants_output", "batch", "batch_output", "fine-tune", "fine-tune-results",
	"vision", "user_data", "evals"}

// Limits on expires_after, in seconds: OpenAI's.
const (
	minKeep = 3600
	maxKeep = 2592000
)

// fileOptions are the options of a file, as OpenAI's API has them.
func fileOptions(w access.Principal, filename, purpose string, anchor string, seconds int64,
	labels []string) (o files.Options, err error) {
	o = files.Options{Filename: filename, Purpose: purpose, Labels: labels}
	if !slices.Contains(purposes, purpose) {
		return o, openAIField("purpose", fmt.Sprintf("%.40q: it is %s", purpose, strings.Join(purposes, ", ")))
	}
	if anchor != "" || seconds != 0 {
		if anchor != "created_at" {
			return o, openAIField("expires_after.anchor", "it is created_at")
		}
		if seconds < minKeep || seconds > maxKeep {
			return o, openAIField("expires_after.seconds", fmt.Sprintf("%d: it is %d to %d", seconds, minKeep, maxKeep))
		}
		o.Keep = time.Duration(seconds) * time.Second
	}
	if err := kb.CheckLabels(labels); err != nil {
		return o, openAIField("labels", err.Error())
	}
	if err := checkLabels(w, labels, "body"); err != nil {
		return o, err
	}
	return o, openAIFieldOf(o.Check())
}

// repeatedID is the id of what a request creates that may be made again: by its Idempotency-Key, where it has one.
func repeatedID(r *http.Request, w access.Principal) (id uuid.UUID, err error) {
	switch keys := r.Header.Values("Idempotency-Key"); {
	case len(keys) == 0:
		return uuid.Nil, nil
	case len(keys) > 1 || keys[0] == "" || len(keys[0]) > access.MaxRequestKey:
		return uuid.Nil, openAIField("header.Idempotency-Key", fmt.Sprintf("it is one, of 1 to %d characters",
			access.MaxRequestKey))
	default:
		return access.EventID(w, r.URL.Path+" "+keys[0], 0), nil
	}
}

// openAIUploadSize is how many bytes the file of a form may have that is streamed; 0 for another request.
func openAIUploadSize(r *http.Request) int64 {
	switch path, below := strings.CutPrefix(r.URL.Path, openAIPrefix+"uploads/"); {
	case r.Method != http.MethodPost:
	case r.URL.Path == openAIPrefix+"files":
		return files.MaxBytes
	case below && strings.HasSuffix(path, "/parts"):
		return files.MaxPart
	}
	return 0
}

func (s *Server) openAIFiles() {
	s.openAI("POST files", access.KBWrite, s.createFile)
	s.openAI("GET files", access.KBRead, func(ctx context.Context, w access.Principal, r *http.Request) (any, error) {
		page, q, err := openAIQuery(r, filePrefix, files.MaxList, files.MaxList, "purpose")
		if err != nil {
			return nil, err
		}
		all, err := s.files.List(ctx, w.Tenant, q.Get("purpose"), page)
		for _, cursor := range []*uuid.UUID{page.After, page.Before} {
			if err == nil && len(all) == 0 && cursor != nil {
				if _, err = s.files.Get(ctx, w.Tenant, *cursor); errors.Is(err, files.ErrNotFound) {
					err = kb.ErrNoCursor
				}
			}
		}
		if err != nil {
			return nil, err
		}
		all, more := kb.CutPage(page, all)
		return newOpenAIList(all, more, func(f files.File) (string, any) { return fileID(f.ID), newOpenAIFile(f) }), nil
	})
	s.openAI("GET files/{file}", access.KBRead,
		func(ctx context.Context, w access.Principal, r *http.Request) (any, error) {
			f, d, err := s.findFile(ctx, w, r)
			if d != nil {
				return newDocumentFile(*d), err
			}
			return newOpenAIFile(f), err
		})
	s.openAI("DELETE files/{file}", access.KBWrite,
		func(ctx context.Context, w access.Principal, r *http.Request) (any, error) {
			f, d, err := s.findFile(ctx, w, r)
			switch {
			case err != nil:
				return nil, err
			case d != nil: // the document is all that there is of it
				_, err = s.agent(w, w.Agent).Remove(ctx, d.ID)
			default:
				err = s.agent(w, w.Agent).RemoveFile(ctx, f.ID)
			}
			return openAIDeleted{r.PathValue("file"), "file", true}, err
		})
	s.openAIRaw("GET files/{file}/content", access.KBRead, s.fileContent)
}

// findFile returns the file of a path; or the document, where it is that of one which was made of no file.
func (s *Server) findFile(ctx context.Context, w access.Principal, r *http.Request) (f files.File,
	d *konstruct.Document, err error) {
	id, err := pathID(r, "file", filePrefix)
	if err != nil {
		return f, nil, err
	}
	if f, err = s.files.Get(ctx, w.Tenant, id); !errors.Is(err, files.ErrNotFound) {
		return f, nil, err
	}
	document, err := s.tenant(w).Documents().Find(ctx, id)
	if err == nil && kb.IsOfFile(document.Source) || errors.Is(err, kb.ErrNotFound) {
		return f, nil, &kb.NoFileError{ID: id}
	}
	return f, &document, err
}

// createFile stores the file of a form.
func (s *Server) createFile(ctx context.Context, w access.Principal, r *http.Request) (any, error) {
	id, err := repeatedID(r, w)
	if err != nil {
		return nil, err
	}
	if err := s.fileRoom(ctx, w); err != nil {
		return nil, err
	}
	form, err := newOpenAIForm(r, "file", map[string]bool{"purpose": false, "expires_after[anchor]": false,
		"expires_after[seconds]": false, "labels": true})
	if err != nil {
		return nil, err
	}
	part, err := form.next()
	if err != nil {
		return nil, err
	}
	if part == nil {
		return nil, openAIField("file", "it is missing")
	}
	f, err := s.files.Create(ctx, w.Tenant, id, formReader{part}, func() (o files.Options, err error) {
		if err := form.finish(); err != nil {
			return o, err
		}
		seconds := int64(0)
		if v := form.value("expires_after[seconds]"); v != "" {
			if seconds, err = strconv.ParseInt(v, 10, 64); err != nil {
				return o, openAIField("expires_after.seconds", "it is no whole number")
			}
		}
		return fileOptions(w, part.FileName(), form.value("purpose"), form.value("expires_after[anchor]"), seconds,
			form.values["labels"])
	})
	return newOpenAIFile(f), err
}

// fileRoom refuses a file where the tenant has as many as it may have documents.
func (s *Server) fileRoom(ctx context.Context, w access.Principal) error {
	limits, err := s.meter.Limits(ctx, w.Tenant)
	if err != nil || limits.Documents == 0 {
		return err
	}
	n, err := s.files.Count(tenantdb.Trusted(ctx), w.Tenant)
	if err == nil && int64(n) >= limits.Documents {
		return problem(
			http.StatusForbidden,
			"this tenant has %d files, which is its limit of documents: delete some, or "+
				"ask the operator for more",
			n,
		)
	}
	return err
}

// fileContent sends a file as it was uploaded; of a document that was made of no file, its text.
func (s *Server) fileContent(w http.ResponseWriter, r *http.Request) error {
	ctx, who := r.Context(), principalOf(r.Context())
	f, d, err := s.findFile(ctx, who, r)
	if err != nil {
		return err
	}
	var content io.Reader
	name, size := f.Filename, f.Bytes
	if d != nil {
		release, err := s.memory.reserve(ctx, who.Tenant, d.Bytes*weightFile)
		if err != nil {
			return err
		}
		defer release()
		text, err := s.tenant(who).Documents().WholeText(ctx, d.ID)
		if err != nil {
			return err
		}
		content, name, size = strings.NewReader(text), d.Filename, int64(len(text))
	} else {
		content = s.files.Read(ctx, who.Tenant, f)
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Length", strconv.FormatInt(size, 10))
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name}))
	s.sendContent(w, r, content)
	return nil
}

// sendContent sends a response that may take as long as the client reads on.
func (s *Server) sendContent(w http.ResponseWriter, r *http.Request, content io.Reader) {
	out := http.NewResponseController(w)
	for buf := make([]byte, 64<<10); ; {
		n, err := content.Read(buf)
		_ = out.SetWriteDeadline(time.Now().Add(answerTime)) // ignore the error: then there is none
		if n > 0 {
			if _, sent := w.Write(buf[:n]); sent != nil {
				return
			}
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			s.logger.WarnContext(
				r.Context(),
				"a file was not sent to its end",
				"request",
				requestID(r.Context()),
				"error",
				err,
			)
			panic(http.ErrAbortHandler) // so that nobody takes a part for the whole
		}
	}
}
