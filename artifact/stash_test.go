package artifact_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/konstruct/konstruct/artifact"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/tenantdb"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var (
	acme   = uuid.MustParse("11111111-1111-4111-8111-111111111111")
	globex = uuid.MustParse("22222222-2222-4222-8222-222222222222")
)

// TestPiecesAreTheFile however they are cut, and wherever it is read from.
func TestPiecesAreTheFile(t *testing.T) {
	s := artifact.Store{Door: testkit.Door(t)}
	rapid.Check(t, func(rt *rapid.T) {
		want := bytes.Repeat([]byte(rapid.StringN(1, 50, -1).Draw(rt, "text")),
			rapid.IntRange(1, 40_000).Draw(rt, "times"))
		size := int64(len(want))
		f, err := s.Create(t.Context(), acme, "upload", map[string]string{}, nil, &size)
		if err != nil {
			rt.Fatal(err)
		}
		for at := int64(0); at < size; {
			n := rapid.Int64Range(1, size-at).Draw(rt, "piece")
			if at, err = s.Append(t.Context(), acme, f.ID, at, bytes.NewReader(want[at:at+n])); err != nil {
				rt.Fatal(err)
			}
		}
		if f, err = s.Get(t.Context(), acme, f.ID); err != nil || f.Stored != size {
			rt.Fatalf("%+v, %v", f, err)
		}
		r := s.Read(t.Context(), acme, f)
		from := rapid.Int64Range(0, size-1).Draw(rt, "from")
		if _, err := r.Seek(from, io.SeekStart); err != nil {
			rt.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want[from:]) {
			rt.Fatalf("from %d: %d bytes, %v", from, len(got), err)
		}
		if err := s.Delete(t.Context(), acme, f.ID); err != nil {
			rt.Fatal(err)
		}
	})
}

// broken breaks off after so many bytes.
type broken struct{ left int }

func (b *broken) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, errors.New("the line is broken")
	}
	n := min(len(p), b.left)
	b.left -= n
	return n, nil
}

func TestWhatHasComeStaysWhenTheLineBreaks(t *testing.T) {
	s := artifact.Store{Door: testkit.Door(t)}
	f, err := s.Create(t.Context(), acme, "upload", 1, nil, nil)
	if err == nil {
		t.Fatal("what is no object is taken")
	}
	if f, err = s.Create(t.Context(), acme, "upload", map[string]int{}, nil, nil); err != nil {
		t.Fatal(err)
	}
	n, err := s.Append(t.Context(), acme, f.ID, 0, &broken{left: 2*artifact.Piece + 17})
	if err == nil || n != 2*artifact.Piece+17 {
		t.Errorf("%d bytes, %v", n, err)
	}
	var offset *artifact.OffsetError
	if _, err := s.Append(t.Context(), acme, f.ID, 5, strings.NewReader("x")); !errors.As(err, &offset) ||
		offset.Stored != n {
		t.Errorf("elsewhere: %v", err)
	}
}

// TestNothingOfAnotherTenantIsReached by any query: of another tenant, none, or a forged one.
func TestNothingOfAnotherTenantIsReached(t *testing.T) {
	s := artifact.Store{Door: testkit.Door(t)}
	f, err := s.Create(t.Context(), acme, "bundle", map[string]int{}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(t.Context(), acme, f.ID, 0, strings.NewReader("secret")); err != nil {
		t.Fatal(err)
	}
	f, err = s.Get(t.Context(), acme, f.ID)
	if err != nil {
		t.Fatal(err)
	}
	nothing := func(context.Context, io.Writer) (any, error) { return nil, nil }
	for _, tenant := range []uuid.UUID{globex, uuid.New(), uuid.Nil} {
		want := artifact.ErrNotFound
		if tenant == uuid.Nil {
			want = tenantdb.ErrNoTenant
		}
		_, getErr := s.Get(t.Context(), tenant, f.ID)
		_, appendErr := s.Append(t.Context(), tenant, f.ID, 6, strings.NewReader("x"))
		_, readErr := io.ReadAll(s.Read(t.Context(), tenant, f))
		for name, err := range map[string]error{"get": getErr, "append": appendErr, "read": readErr,
			"delete": s.Delete(t.Context(), tenant, f.ID)} {
			if !errors.Is(err, want) {
				t.Errorf("%s of %s: %v", name, tenant, err)
			}
		}
		if err := s.Produce(t.Context(), tenant, f.ID, nothing); !errors.Is(err, artifact.ErrTakenOver) &&
			!errors.Is(err, want) {
			t.Errorf("make of %s: %v", tenant, err)
		}
		if files, err := s.List(t.Context(), tenant, "bundle", uuid.Nil, 10); len(files) != 0 || err != nil &&
			!errors.Is(err, want) {
			t.Errorf("list of %s: %v, %v", tenant, files, err)
		}
	}
}

// TestAFileIsMadeByOneAlone, and by another where that one is stopped.
func TestAFileIsMadeByOneAlone(t *testing.T) {
	s := artifact.Store{Door: testkit.Door(t)}
	f, err := s.Create(t.Context(), acme, "bundle", map[string]int{}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	begun, ctx, stop := make(chan struct{}), t.Context(), context.CancelFunc(nil)
	ctx, stop = context.WithCancel(ctx)
	first := make(chan error, 1)
	go func() {
		first <- s.Produce(ctx, acme, f.ID, func(ctx context.Context, to io.Writer) (any, error) {
			if _, err := to.Write(bytes.Repeat([]byte("half"), artifact.Piece)); err != nil {
				return nil, err
			}
			close(begun)
			<-ctx.Done()
			return nil, ctx.Err()
		})
	}()
	<-begun
	whole := func(_ context.Context, to io.Writer) (any, error) {
		_, err := io.WriteString(to, "whole")
		return map[string]int{"n": 1}, err
	}
	if err := s.Produce(t.Context(), acme, f.ID, whole); !errors.Is(err, artifact.ErrTakenOver) {
		t.Errorf("a second maker: %v", err)
	}
	stop()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the first: %v", err)
	}
	if err := s.Produce(t.Context(), acme, f.ID, whole); err != nil {
		t.Fatal(err)
	}
	f, err = s.Get(t.Context(), acme, f.ID)
	if err != nil || f.State != artifact.Done || string(f.Result) != `{"n": 1}` {
		t.Errorf("%+v, %v", f, err)
	}
	if got, err := io.ReadAll(s.Read(t.Context(), acme, f)); err != nil || string(got) != "whole" {
		t.Errorf("it holds %.20q, %v", got, err)
	}
	if err := s.Produce(t.Context(), acme, f.ID, whole); !errors.Is(err, artifact.ErrTakenOver) {
		t.Errorf("made again: %v", err)
	}
	bad, err := s.Create(t.Context(), acme, "bundle", map[string]int{}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Produce(t.Context(), acme, bad.ID, func(context.Context, io.Writer) (any, error) {
		return nil, errors.New("no such thing")
	}); err == nil {
		t.Error("a failure is none")
	}
	if bad, err = s.Get(t.Context(), acme, bad.ID); err != nil || bad.State != artifact.Failed ||
		bad.Reason != "no such thing" {
		t.Errorf("%+v, %v", bad, err)
	}
}

// TestWhatExpiredIsGone, and does not count.
func TestWhatExpiredIsGone(t *testing.T) {
	d := testkit.Database(t)
	s := artifact.Store{Door: testkit.DoorOf(t, d)}
	f, err := s.Create(t.Context(), acme, "upload", map[string]int{}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if f.ExpiresAt.Sub(f.CreatedAt) != artifact.TTL {
		t.Errorf("kept for %s", f.ExpiresAt.Sub(f.CreatedAt))
	}
	testkit.Super(t, d, `UPDATE artifact_files SET expires_at = now() - interval '1 second'`)
	if _, err := s.Get(t.Context(), acme, f.ID); !errors.Is(err, artifact.ErrNotFound) {
		t.Errorf("%v", err)
	}
	testkit.Super(t, d, `INSERT INTO artifact_files (tenant_id, id, kind, given, expires_at) SELECT '`+acme.String()+
		`', gen_random_uuid(), 'upload', '{}', now() + interval '1 hour' FROM generate_series(1, 1000)`)
	if _, err := s.Create(t.Context(), acme, "upload", map[string]int{}, nil, nil); !errors.Is(err, artifact.ErrFull) {
		t.Errorf("one more than a thousand: %v", err)
	}
	if _, err := s.Create(t.Context(), globex, "upload", map[string]int{}, nil, nil); err != nil {
		t.Errorf("another tenant: %v", err)
	}
}
