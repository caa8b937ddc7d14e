package disclosure

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// TestWhatTellsOfTheMachineIsUnsaid uses real errors of the network, the system, the database and other processes,
// wrapped as ours are.
func TestWhatTellsOfTheMachineIsUnsaid(t *testing.T) {
	_, refused := net.Dial("tcp", "127.0.0.1:1")
	_, name := net.LookupHost("nowhere.invalid")
	_, file := os.ReadFile("/nowhere/secret")
	_, connect := pgx.Connect(context.Background(), "postgres://somebody:secret@127.0.0.1:1/there?connect_timeout=5")
	program := exec.Command("/nowhere/program").Run()
	ended := exec.Command("false").Run()
	for what, err := range map[string]error{"refused": refused, "a name": name, "a file": file,
		"the database": connect, "a program": program, "a program's end": ended,
		"a statement": &pgconn.PgError{Message: "relation secret"}, "a URL": &url.Error{Op: "Get",
			URL: "http://secret", Err: errors.New("x")}} {
		if err == nil {
			t.Fatalf("%s is no error", what)
		}
		for _, e := range []error{err, fmt.Errorf("kb: %w", err), errors.Join(errors.New("ours"),
			fmt.Errorf("x: %w", err))} {
			if text, whole := Reason(e); text != Undisclosed || whole {
				t.Errorf("%s: %q of %v", what, text, e)
			}
		}
		ours := errors.New("it is unavailable")
		both := fmt.Errorf("kb: embed: %w", Hide(ours, err))
		if text, whole := Reason(both); text != "it is unavailable" || whole || !errors.Is(both, ours) ||
			!errors.Is(both,
				err) || !strings.Contains(both.Error(), err.Error()) {
			t.Errorf("%s, hidden: %q of %v", what, text, both)
		}
	}
	for _, e := range []error{errors.New("page 3 can't be read"), fmt.Errorf("a: %w", errors.New("b")),
		context.DeadlineExceeded} {
		if text, whole := Reason(e); text != e.Error() || !whole {
			t.Errorf("%v: %q", e, text)
		}
	}
}
