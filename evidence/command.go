package evidence

import (
	"bufio"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/konstruct/konstruct/ledger"
)

// Command is the command line of a verification: `konstruct verify` and `konstruct-verify` run it.
type Command struct {
	Bundle    string   // a file's path
	Key       string   // the notary's key, or the path of a file with it
	Witnesses []string // the witnesses' keys, or paths of files with them
	Quorum    int      // how many of the witnesses must have cosigned
	Floor     int      // the least number of days that a retention rule may keep events; 0: no check
	Receipts  []string // paths of files
	Texts     []string // paths of files, each with a text that a search must have returned
	Authority string   // a file of PEM certificates: the roots of the trusted time-stamping authorities
	Events    string   // the file to which the proven events are written; empty: none
	Progress  func(done, total int64)
}

// ErrArgument says that an argument of a command can't be used: nothing was verified.
var ErrArgument = errors.New("wrong argument")

// Run verifies the bundle. An error says that an argument (ErrArgument) or the bundle could not be read; see Verify.
func (c Command) Run() (*Result, error) {
	t, err := c.trust()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrArgument, err)
	}
	f, err := os.Open(c.Bundle)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if c.Events == "" {
		return Verify(f, info.Size(), t)
	}
	return verifyEvents(f, info.Size(), t, c.Events)
}

// trust reads the arguments that say whom to trust, and with what.
func (c Command) trust() (t Trust, err error) {
	if c.Floor < 0 {
		return t, fmt.Errorf("--retention-floor: %d days", c.Floor)
	}
	t = Trust{Quorum: c.Quorum, Floor: c.Floor, Progress: c.Progress}
	key, err := orFile(c.Key)
	if err == nil {
		t.Key, err = ledger.ParseKey(key)
	}
	if err != nil {
		return t, fmt.Errorf("--key: %w", err)
	}
	for _, w := range c.Witnesses {
		key, err := orFile(w)
		if err != nil {
			return t, fmt.Errorf("--witness: %w", err)
		}
		v, err := ledger.ParseWitness(key)
		if err != nil {
			return t, fmt.Errorf("--witness: %w", err)
		}
		t.Witnesses = append(t.Witnesses, v)
	}
	if c.Quorum < 0 || c.Quorum > len(t.Witnesses) {
		return t, fmt.Errorf("--quorum: %d of %d witnesses", c.Quorum, len(t.Witnesses))
	}
	for _, path := range c.Receipts {
		raw, err := readFile(path)
		if err != nil {
			return t, fmt.Errorf("--receipt: %w", err)
		}
		t.Receipts = append(t.Receipts, raw)
	}
	for _, path := range c.Texts {
		raw, err := readFile(path)
		if err != nil {
			return t, fmt.Errorf("--text: %w", err)
		}
		t.Texts = append(t.Texts, Text{path, raw})
	}
	if c.Authority != "" {
		raw, err := readFile(c.Authority)
		if err != nil {
			return t, fmt.Errorf("--tsa: %w", err)
		}
		t.Authorities = x509.NewCertPool()
		if !t.Authorities.AppendCertsFromPEM([]byte(raw)) {
			return t, fmt.Errorf("--tsa: %s holds no certificate in PEM", c.Authority)
		}
	}
	return t, nil
}

// verifyEvents verifies, and writes the events to a path once they are proven. Until then they are in a file beside it:
// what stood at the path stays where the bundle does not hold.
func verifyEvents(f io.ReaderAt, size int64, t Trust, path string) (result *Result, err error) {
	dir := filepath.Dir(path)
	info, statErr := os.Stat(path)
	device := statErr == nil && !info.Mode().IsRegular() // as /dev/stdout, which no file can replace
	if device {
		dir = ""
	}
	out, err := os.CreateTemp(dir, filepath.Base(path)+".*")
	if err != nil {
		return nil, fmt.Errorf("--events: %w", err)
	}
	defer os.Remove(out.Name())
	defer out.Close()
	w := bufio.NewWriter(out)
	lines := json.NewEncoder(w)
	lines.SetEscapeHTML(false)
	t.Event = func(r *ledger.Record) error { return lines.Encode(asJSON(r)) }
	result, err = Verify(f, size, t)
	if err != nil || !result.OK() {
		return result, err
	}
	err = errors.Join(w.Flush(), out.Chmod(0o644))
	switch {
	case err == nil && device:
		err = copyTo(path, out)
	case err == nil:
		err = os.Rename(out.Name(), path)
	}
	if err != nil {
		return result, fmt.Errorf("--events: %w", err)
	}
	return result, nil
}

// copyTo writes a file from its beginning to a device.
func copyTo(path string, from *os.File) error {
	to, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err = from.Seek(0, io.SeekStart); err == nil {
		_, err = io.Copy(to, from)
	}
	return errors.Join(err, to.Close())
}

// orFile returns a file's content, or the argument itself if there is no such file and it may be a key.
func orFile(arg string) (string, error) {
	raw, err := readFile(arg)
	if err != nil && strings.Contains(arg, "+") { // as every key does
		return arg, nil
	}
	return raw, err
}

func readFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	const limit = 64 << 10
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && len(raw) > limit {
		err = fmt.Errorf("%s is longer than %d bytes", path, limit)
	}
	return string(raw), err
}

// asJSON returns a record's opened fields by column name.
func asJSON(r *ledger.Record) map[string]any {
	out := map[string]any{"id": ledger.FormatID(r.ID), "tenant_id": ledger.FormatID(r.TenantID),
		"created_at": timeText(r.CreatedAt), "recorded_at": timeText(r.RecordedAt)}
	for f := ledger.AgentID; f <= ledger.Metadata; f++ {
		s := &r.Shown[f-1]
		switch {
		case !s.Open:
		case s.Null:
			out[f.String()] = nil
		case f == ledger.AgentID && len(s.Value) == 16:
			out[f.String()] = ledger.FormatID([16]byte(s.Value))
		case f == ledger.LatencyMS && len(s.Value) == 4:
			out[f.String()] = int32(binary.BigEndian.Uint32(s.Value))
		case f == ledger.Metadata && json.Valid(s.Value):
			out[f.String()] = json.RawMessage(append([]byte{}, s.Value...))
		default:
			out[f.String()] = string(s.Value)
		}
	}
	return out
}

// Print writes the result in plain English: what was verified, notes, and problems.
func (r *Result) Print(to io.Writer) error {
	if r.OK() {
		fmt.Fprintln(to, "This bundle holds.")
	} else {
		fmt.Fprintln(to, "This bundle does NOT hold.")
	}
	for _, h := range r.Holds {
		fmt.Fprintln(to, "  ✓", clean(h))
	}
	for _, n := range r.Notes {
		fmt.Fprintln(to, "  -", clean(n))
	}
	for _, p := range r.Problems {
		where := p.Location
		if p.Event != "" {
			where = strings.TrimSpace("event " + p.Event + " " + where)
		}
		fmt.Fprintf(to, "  ✗ %s: %s\n", clean(where), clean(p.Description))
	}
	if more := r.Count - int64(len(r.Problems)); more > 0 {
		fmt.Fprintf(to, "  and %d more\n", more)
	}
	return nil
}

// clean replaces control characters, so that a bundle's texts can't control the terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return '␦'
		}
		return r
	}, s)
}
