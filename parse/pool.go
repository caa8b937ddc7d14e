package parse

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/konstruct/konstruct/chunk"
	"github.com/konstruct/konstruct/disclosure"
	"github.com/konstruct/konstruct/extract"
)

// Limits on one process.
const (
	// maxResponse is the largest result in bytes: the text, and the text again in chunks, which overlap, some by half,
	// and repeat headings.
	maxResponse = 8 * extract.MaxText
	// maxFiles is how many files a process parses before it is replaced.
	maxFiles = 1000
	// startTime is the time limit for a process to become ready.
	startTime = 20 * time.Second
	// stderrTail is how many of the last bytes that a process wrote to stderr are kept; a panic's stacks fit.
	stderrTail = 16 << 10
)

// request is a file sent to a process.
type request struct {
	Kind     string
	Raw      []byte
	Chunking chunk.Options
}

// response is the result for a file.
type response struct {
	Parsed *ParsedFile
	Err    string
	Reason int // which of reasons Err wraps, from 1; 0: none
}

// reasons are the errors that callers can still test with errors.Is.
var reasons = []error{extract.ErrEmpty, extract.ErrNoText, extract.ErrTooLarge, extract.ErrEncrypted, extract.ErrKind,
	ErrResources}

// Pool parses in processes, each one file at a time. If a process dies or exceeds a limit, the file has an error and
// the process is replaced. Processes do not inherit this process's environment, open files or database address.
type Pool struct {
	command []string
	limits  Limits
	idle    chan *process // as many as there may be, nil for one that is not started
}

// NewPool returns a pool of n processes. They are started when needed, by the command, which must call Serve.
func NewPool(n int, l Limits, command ...string) *Pool {
	p := &Pool{command: command, limits: l, idle: make(chan *process, n)}
	for range n {
		p.idle <- nil
	}
	return p
}

// process is a running parser process.
type process struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    io.Reader
	stderr *tail
	files  int
}

// Close ends the processes, after those at work have finished their file.
func (p *Pool) Close() error {
	for range cap(p.idle) {
		if w := <-p.idle; w != nil {
			w.end()
		}
	}
	for range cap(p.idle) { // another Close finds nothing
		p.idle <- nil
	}
	return nil
}

// Parse implements Parser.
func (p *Pool) Parse(ctx context.Context, kind string, raw []byte, o chunk.Options) (*ParsedFile, error) {
	var w *process
	select {
	case w = <-p.idle:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { p.idle <- w }()
	if w == nil {
		var err error
		if w, err = p.start(); err != nil {
			return nil, err
		}
	}
	ctx, cancel := p.limits.begin(ctx)
	defer cancel()
	var a response
	done := make(chan error, 1)
	go func() { done <- w.send(request{kind, raw, o}, &a) }()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		w.end() // which ends ask, too
		<-done
		w = nil
		return nil, context.Cause(ctx)
	}
	if w.files++; err != nil || w.files == maxFiles {
		w.end()
		said := w.stderr
		w = nil
		if err != nil {
			return nil, exitReason(err, said, p.limits.Memory)
		}
	}
	if a.Reason > 0 && a.Reason <= len(reasons) {
		return nil, &remembered{a.Err, reasons[a.Reason-1]}
	}
	if a.Err != "" {
		return nil, errors.New(a.Err)
	}
	return a.Parsed, nil
}

// remembered is an error that came from another process as text and reason.
type remembered struct {
	words  string
	reason error
}

func (k *remembered) Error() string { return k.words }
func (k *remembered) Unwrap() error { return k.reason }

// exitReason returns the error of the file that was being parsed when its process ended.
func exitReason(err error, said *tail, memory uint64) error {
	switch {
	case errors.Is(err, errResponse):
		return fmt.Errorf("%w: what it says comes to more than %d bytes", ErrResources, maxResponse)
	case strings.Contains(said.String(), outOfMemory) || strings.Contains(said.String(), "out of memory") ||
		strings.Contains(said.String(), "cannot allocate memory"):
		return fmt.Errorf("%w: more than %d MiB of memory", ErrResources, memory>>20)
	}
	return disclosure.Hide(errDied, fmt.Errorf("%w: %s", err, said.line()))
}

func (p *Pool) start() (*process, error) {
	cmd := exec.Command(p.command[0], p.command[1:]...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")} // text recognition is looked for there
	cmd.Dir = "/"
	w := &process{cmd: cmd, stderr: &tail{}}
	cmd.Stderr = w.stderr
	cmd.SysProcAttr = attributes()
	var err error
	if w.in, err = cmd.StdinPipe(); err == nil {
		if w.out, err = cmd.StdoutPipe(); err == nil {
			err = cmd.Start()
		}
	}
	if err != nil {
		return nil, disclosure.Hide(ErrStart, err)
	}
	// The process reports that it is ready, so that a failure to start is not taken for a failure of a file.
	slow := time.AfterFunc(startTime, w.kill)
	defer slow.Stop()
	if err = write(w.in, p.limits); err == nil {
		err = read(w.out, 64, new(bool))
	}
	if err != nil {
		w.end()
		return nil, disclosure.Hide(ErrStart, fmt.Errorf("%w: %s", err, w.stderr.line()))
	}
	return w, nil
}

// kill kills the process and its children.
func (w *process) kill() { _ = syscall.Kill(-w.cmd.Process.Pid, syscall.SIGKILL) }

// end kills the process and waits for it.
func (w *process) end() {
	_ = w.in.Close()
	w.kill()
	_ = w.cmd.Wait()
}

// send sends a file to the process and waits for the response.
func (w *process) send(r request, a *response) error {
	if err := write(w.in, r); err != nil {
		return fmt.Errorf("hand it over: %w", err)
	}
	return read(w.out, maxResponse, a)
}

// errResponse means that a message exceeds its limit.
var errResponse = errors.New("the message is too long")

// write writes a message: its length in eight bytes, then its gob encoding.
func write(to io.Writer, v any) error {
	var b bytes.Buffer
	b.Write(make([]byte, 8))
	if err := gob.NewEncoder(&b).Encode(v); err != nil {
		return err
	}
	raw := b.Bytes()
	binary.BigEndian.PutUint64(raw, uint64(len(raw)-8))
	_, err := to.Write(raw)
	return err
}

// read reads a message of at most limit bytes.
func read(from io.Reader, limit uint64, v any) error {
	var head [8]byte
	if _, err := io.ReadFull(from, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint64(head[:])
	if n > limit {
		return errResponse
	}
	raw := &io.LimitedReader{R: from, N: int64(n)}
	if err := gob.NewDecoder(raw).Decode(v); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, raw)
	return err
}

// tail keeps the last stderrTail bytes written to it: a process may have written warnings for a long time before it
// died.
type tail struct{ kept []byte }

// String is what was kept.
func (t *tail) String() string { return string(t.kept) }

// line is the line that says why the process died: where a panic or a fatal error of Go begins, which stack traces
// follow, or else the last one.
func (t *tail) line() string {
	reason := ""
	for line := range strings.Lines(t.String()) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		reason = line
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			break
		}
	}
	return reason[:min(len(reason), 300)]
}

// Write implements io.Writer.
func (t *tail) Write(b []byte) (int, error) {
	t.kept = append(t.kept, b[max(0, len(b)-stderrTail):]...)
	t.kept = slices.Delete(t.kept, 0, max(0, len(t.kept)-stderrTail))
	return len(b), nil
}

// Serve runs a parser process: it parses the files received from in, one after the other, until in ends.
func Serve(ctx context.Context, r Parser, in io.Reader, out io.Writer) error {
	var l Limits
	if err := read(in, 1<<10, &l); err != nil {
		return err
	}
	watch(ctx, l.Memory)
	if err := write(out, true); err != nil {
		return err
	}
	for {
		var q request
		if err := read(in, extract.MaxPDF+1<<20, &q); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		var a response
		var err error
		if a.Parsed, err = r.Parse(ctx, q.Kind, q.Raw, q.Chunking); err != nil {
			a.Err = err.Error()
			for i, reason := range reasons {
				if errors.Is(err, reason) {
					a.Reason = i + 1
				}
			}
		}
		if err := write(out, a); err != nil {
			return err
		}
	}
}
