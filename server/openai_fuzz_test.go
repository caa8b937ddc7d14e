package server

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

// FuzzOpenAIForm: a form is read or refused as the client's fault, and its file is read no further than it goes.
func FuzzOpenAIForm(f *testing.F) {
	const field = "--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nassistants\r\n"
	const file = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.md\"\r\n\r\nhello\r\n"
	for _, s := range []string{field + file + "--b--\r\n", file + field + "--b--", file + file + "--b--",
		field, file, "", "--b",
		"--b--", strings.Repeat(field, 300), "--b\r\nContent-Disposition: form-data\r\n\r\n\r\n--b--",
		"--b\r\n\r\n\r\n--b--", strings.ReplaceAll(file, "hello", strings.Repeat("x", 5000)) + "--b--"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "multipart/form-data; boundary=b")
		form, err := newOpenAIForm(r, "file", map[string]bool{"purpose": false, "labels": true})
		if err != nil {
			t.Fatal(err)
		}
		part, err := form.next()
		size := 0
		if err == nil && part != nil {
			var content []byte
			content, err = io.ReadAll(formReader{part})
			if size = len(content); err == nil {
				err = form.finish()
			}
		}
		if p := (*Problem)(nil); err != nil && (!errors.As(err, &p) || p.Status < 400 || p.Status > 422) {
			t.Fatalf("%q: %v", body, err)
		}
		for name, values := range form.values {
			size += len(name)
			for _, v := range values {
				if size += len(v); len(v) > maxFormField {
					t.Fatalf("%q: a field of %d bytes", body, len(v))
				}
			}
		}
		if size > len(body) {
			t.Fatalf("%q: %d bytes were read of it", body, size)
		}
	})
}
