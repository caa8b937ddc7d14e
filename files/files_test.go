package files_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/files"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/kb"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var (
	acme   = uuid.MustParse("11111111-1111-4111-8111-111111111111")
	globex = uuid.MustParse("22222222-2222-4222-8222-222222222222")
)

func options() (files.Options, error) {
	return files.Options{Filename: "a.bin", Purpose: "assistants"}, nil
}

// count are the rows of a table.
func count(t *testing.T, d *testkit.DB, table string) (n int) {
	t.Helper()
	if err := testkit.Connect(t, d.SuperuserURL()).QueryRow(t.Context(), `SELECT count(*) FROM `+table).
		Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestAFileIsReadAsItWasSent in pieces of its parts; another tenant sees nothing of it, and a deletion leaves nothing.
func TestAFileIsReadAsItWasSent(t *testing.T) {
	d := testkit.Database(t)
	s := files.Store{Door: testkit.DoorOf(t, d)}
	content := bytes.Repeat([]byte("0123456789"), 350_000) // four pieces, the last of which is short
	f, err := s.Create(t.Context(), acme, uuid.Nil, iotest.HalfReader(bytes.NewReader(content)), options)
	if err != nil || f.Bytes != int64(len(content)) {
		t.Fatalf("%+v, %v", f, err)
	}
	if got, err := io.ReadAll(s.Read(t.Context(), acme, f)); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := io.ReadAll(s.Read(t.Context(), globex, f)); !errors.Is(err, files.ErrNotFound) {
		t.Errorf("another tenant reads it: %v", err)
	}
	if _, err := s.Get(t.Context(), globex, f.ID); !errors.Is(err, files.ErrNotFound) {
		t.Errorf("another tenant: %v", err)
	}
	if all, err := s.List(t.Context(), globex, "", kb.Page{Limit: 9}); err != nil || len(all) != 0 {
		t.Errorf("another tenant lists %v, %v", all, err)
	}
	remove := func(tenant uuid.UUID) error {
		return s.Door.Tx(t.Context(), tenant, func(ctx context.Context, tx pgx.Tx) error {
			_, err := files.Delete(ctx, tx, tenant, f.ID)
			return err
		})
	}
	if err := remove(globex); !errors.Is(err, files.ErrNotFound) {
		t.Errorf("another tenant deletes it: %v", err)
	}
	half := s.Read(t.Context(), acme, f)
	if _, err := io.CopyN(io.Discard, half, 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := remove(acme); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(half); !errors.Is(err, files.ErrNotFound) {
		t.Errorf("a file that is deleted while it is read: %v", err)
	}
	for _, table := range []string{"kb_files", "kb_file_parts", "kb_file_pieces", "kb_file_uploads"} {
		if n := count(t, d, table); n != 0 {
			t.Errorf("%d rows of %s stay", n, table)
		}
	}
}

// TestWhatBreaksOffLeavesNothing: a client that goes, a file that is too large, and options that are refused at its
// end.
func TestWhatBreaksOffLeavesNothing(t *testing.T) {
	d := testkit.Database(t)
	s := files.Store{Door: testkit.DoorOf(t, d)}
	gone, refused := errors.New("the client is gone"), errors.New("purpose: refused")
	for name, c := range map[string]struct {
		r       io.Reader
		options func() (files.Options, error)
		want    error
	}{
		"a client that goes": {io.MultiReader(bytes.NewReader(make([]byte, 3<<20)), iotest.ErrReader(gone)), options,
			gone},
		"refused options": {strings.NewReader("x"), func() (files.Options, error) { return files.Options{}, refused },
			refused},
		"empty":     {strings.NewReader(""), options, files.ErrEmpty},
		"too large": {io.LimitReader(zeroes{}, files.MaxBytes+1), options, files.ErrTooLarge},
	} {
		if _, err := s.Create(t.Context(), acme, uuid.Nil, c.r, c.options); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		for _, table := range []string{"kb_files", "kb_file_parts", "kb_file_pieces", "kb_file_uploads"} {
			if n := count(t, d, table); n != 0 {
				t.Errorf("%s: %d rows of %s stay", name, n, table)
			}
		}
	}
	u, err := s.CreateUpload(t.Context(), acme, files.Options{Filename: "a", Purpose: "assistants"}, 9)
	if err != nil {
		t.Fatal(err)
	}
	for name, do := range map[string]func() error{
		"a part": func() error {
			_, err := s.AddPart(t.Context(), globex, u.ID, uuid.Nil, strings.NewReader("x"))
			return err
		},
		"completion": func() error {
			_, _, err := s.Complete(t.Context(), globex, u.ID, []uuid.UUID{u.ID}, "")
			return err
		},
		"cancellation": func() error { _, err := s.Cancel(t.Context(), globex, u.ID); return err },
	} {
		if err := do(); !errors.Is(err, files.ErrNoUpload) {
			t.Errorf("%s by another tenant: %v", name, err)
		}
	}
}

// zeroes never end.
type zeroes struct{}

// Read implements io.Reader.
func (zeroes) Read(p []byte) (int, error) { clear(p); return len(p), nil }
