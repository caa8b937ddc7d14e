package mcpproxy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Grace periods of ending a server, as the protocol has them: its input is closed, then SIGTERM, then SIGKILL.
const (
	termGrace = 5 * time.Second
	killGrace = 3 * time.Second
)

// Stdio configures a proxy between a client on this process's standard streams and a server that it starts.
type Stdio struct {
	Config
	Command []string  // the server's program and arguments
	Env     []string  // its environment
	In      io.Reader // from the client
	Out     io.Writer // to the client
	Err     io.Writer // gets what the server writes to its standard error
	// Signals are passed on to the server. The second of them kills it.
	Signals <-chan os.Signal
}

// Run starts the server and passes frames until it ends. It returns the server's exit code: 128 and the number of the
// signal if one ended it, as shells do. An error means that the server could not be started.
func (p Stdio) Run(ctx context.Context) (code int, err error) {
	if len(p.Command) == 0 {
		return 0, errors.New("start the MCP server: no command is given: write it behind --")
	}
	cmd := exec.Command(p.Command[0], p.Command[1:]...)
	cmd.Env, cmd.Stderr, cmd.WaitDelay = p.Env, p.Err, killGrace
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, fmt.Errorf("start the MCP server: %w", err)
	}
	// Not StdoutPipe: Wait would close it while the last frames are read.
	out, outWriter, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("start the MCP server: %w", err)
	}
	defer out.Close()
	cmd.Stdout = outWriter
	err = cmd.Start()
	outWriter.Close()
	if err != nil {
		return 0, fmt.Errorf("start the MCP server: %w", err)
	}
	if p.Transport = "pipe"; p.Logger == nil {
		p.Logger = slog.Default()
	}
	r := &stdioRun{Stdio: p, session: NewSession(p.Config, ""), in: in}
	r.ctx, r.leave = context.WithCancel(ctx)
	defer r.leave()
	r.out = newOutbox(p.Out, r.leave)
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	return r.run(cmd, out, exited), nil
}

// stdioRun is a running proxy.
type stdioRun struct {
	Stdio
	session  *Session
	out      *outbox
	ctx      context.Context
	leave    context.CancelFunc // the client can't be written to any more, or the caller stops
	writing  sync.Mutex
	in       io.WriteCloser // the server's input
	deciding sync.WaitGroup
	records  sync.WaitGroup
}

func (r *stdioRun) run(cmd *exec.Cmd, out io.Reader, exited <-chan error) (code int) {
	served := make(chan struct{}) // the server's output has ended
	reader := &idleReader{r: out}
	go func() {
		defer close(served)
		r.fromServer(reader)
	}()
	left := make(chan struct{}) // the client's input has ended
	go func() {
		defer close(left)
		r.fromClient()
	}()
	var waited error
	why := errServerGone
	for over, signalled := false, false; !over; {
		select {
		case waited = <-exited:
			over = true
		case sig := <-r.Signals:
			if signalled {
				_ = cmd.Process.Kill()
			}
			signalled = true
			_ = cmd.Process.Signal(sig) // it may have ended
			if sig == syscall.SIGTERM {
				go killAfter(r.ctx, cmd, termGrace)
			}
		case <-left:
			left, why = nil, errClientLeft
			r.session.Leave()
			r.deciding.Wait()
			r.writing.Lock()
			_ = r.in.Close() // the server sees the end of its input, and ends by itself
			r.writing.Unlock()
		case <-r.ctx.Done():
			waited = stop(cmd, exited)
			over = true
		}
	}
	for idle := false; !idle; { // a grandchild that holds the pipe open does not hold the proxy
		select {
		case <-served:
			idle = true
		case <-time.After(killGrace / 10):
			idle = reader.waited() > killGrace
		}
	}
	r.session.End(why)
	r.deciding.Wait()
	r.records.Wait()
	if err := r.out.close(); err != nil && !errors.Is(err, syscall.EPIPE) {
		r.Logger.Debug("the client can't be written to", "error", err)
	}
	return exitCode(waited)
}

// stop ends a server whose client is gone.
func stop(cmd *exec.Cmd, exited <-chan error) error {
	_ = cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-exited:
		return err
	case <-time.After(killGrace):
		_ = cmd.Process.Kill()
		return <-exited
	}
}

func killAfter(ctx context.Context, cmd *exec.Cmd, grace time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(grace):
		_ = cmd.Process.Kill()
	}
}

// exitCode returns a process's exit code as shells do.
func exitCode(err error) int {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return 0
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return exit.ExitCode()
}

// fromClient passes frames to the server until the client's input ends.
func (r *stdioRun) fromClient() {
	lines := &lineReader{r: bufio.NewReaderSize(r.In, 64<<10), limit: MaxFrame}
	for {
		line, whole, err := lines.next()
		switch {
		case !whole:
			r.refuseLong(lines, line)
		case len(bytes.TrimSpace(line)) == 0:
			if len(line) > 0 {
				r.toServer(line)
			}
		default:
			r.act(line, r.session.FromClient(line))
		}
		if err != nil {
			return
		}
	}
}

// act does what a verdict says about a line.
func (r *stdioRun) act(line []byte, v Verdict) {
	switch {
	case v.Pass:
		r.toServer(line)
	case v.Answer != nil:
		r.out.put(append(v.Answer, '\n'))
	case v.Decide != nil:
		r.deciding.Go(func() {
			r.act(line, v.Decide(r.ctx, func(frame []byte) { r.out.put(append(frame, '\n')) }))
		})
	}
}

// toServer writes a line to the server. If the server has ended, its calls are recorded when it is waited for.
func (r *stdioRun) toServer(line []byte) {
	r.writing.Lock()
	defer r.writing.Unlock()
	_, _ = r.in.Write(line)
}

// refuseLong reads the rest of a frame that is too long to decide about, and answers it.
func (r *stdioRun) refuseLong(lines *lineReader, begin []byte) {
	f := newLongFrame()
	_, _ = f.Write(begin)
	for whole := false; !whole; {
		var piece []byte
		var err error
		piece, whole, err = lines.piece()
		_, _ = f.Write(piece)
		whole = whole || err != nil
	}
	id := f.id
	if idKey(id) == "" || !json.Valid(id) {
		id = nil
	}
	r.out.put(append(errorFrame(id, codeInvalid, fmt.Sprintf("the frame has %d bytes, the limit is %d", f.size,
		MaxFrame)), '\n'))
}

// fromServer passes frames to the client until the server's output ends.
func (r *stdioRun) fromServer(out io.Reader) {
	lines := &lineReader{r: bufio.NewReaderSize(out, 64<<10), limit: MaxFrame}
	for {
		line, whole, err := lines.next()
		if !whole {
			r.passLong(lines, line)
		} else if len(line) > 0 {
			if record := r.session.FromServer(line); record == nil {
				r.out.put(line)
			} else {
				release := r.out.hold(line)
				r.records.Go(func() {
					instead := record(r.ctx)
					if instead != nil {
						instead = append(instead, '\n')
					}
					release(instead)
				})
			}
		}
		if err != nil {
			return
		}
	}
}

// passLong passes a frame in pieces. The client can't read it before its last piece, which waits for the record.
func (r *stdioRun) passLong(lines *lineReader, begin []byte) {
	r.out.whole.Lock()
	defer r.out.whole.Unlock()
	f := newLongFrame()
	piece, whole := begin, false
	for {
		_, _ = f.Write(piece)
		next, ended, err := lines.piece()
		r.out.add(&queued{frame: piece})
		if piece, whole = next, ended; whole || err != nil {
			break
		}
	}
	_, _ = f.Write(piece)
	record := r.session.longFromServer(f)
	if record == nil {
		r.out.add(&queued{frame: piece})
		return
	}
	release := r.out.holdPiece(piece)
	r.records.Go(func() {
		if err := record(r.ctx); err != nil {
			// What is sent already can't be taken back. Without its end, the client can't read it as a result.
			r.Logger.Error("a result could not be recorded, and is withheld", "error", err)
			release([]byte("\n"))
			return
		}
		release(nil)
	})
}

// idleReader knows how long its reader has been waiting for more.
type idleReader struct {
	r     io.Reader
	since atomic.Int64 // when the read in progress began, in Unix nanoseconds; 0: none is
}

// Read implements io.Reader.
func (i *idleReader) Read(p []byte) (int, error) {
	i.since.Store(time.Now().UnixNano())
	defer i.since.Store(0)
	return i.r.Read(p)
}

func (i *idleReader) waited() time.Duration {
	since := i.since.Load()
	if since == 0 {
		return 0
	}
	return time.Since(time.Unix(0, since))
}

// lineReader reads lines of bounded length.
type lineReader struct {
	r     *bufio.Reader
	limit int
	end   []byte // the end of a line that is a little too long
}

// next returns the next line with its newline; the last one may have none. If it is longer than the limit, whole is
// false and piece returns the rest.
func (l *lineReader) next() (line []byte, whole bool, err error) {
	for {
		part, err := l.r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil && len(line) <= l.limit:
			return line, true, nil
		case err == nil:
			l.end = line[len(line)-1:]
			return line[: len(line)-1 : len(line)-1], false, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return line, true, err
		case len(line) > l.limit:
			return line, false, nil
		}
	}
}

// piece returns more of a long line, and whether it is its end.
func (l *lineReader) piece() (piece []byte, whole bool, err error) {
	if l.end != nil {
		piece, l.end = l.end, nil
		return piece, true, nil
	}
	part, err := l.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return bytes.Clone(part), false, nil
	}
	return bytes.Clone(part), true, err
}

// ServerEnvironment returns an environment for a server without Konstruct's settings: what reads and writes the trail
// is no business of the program whose calls are recorded.
func ServerEnvironment(env []string) (kept []string) {
	for _, entry := range env {
		if !strings.HasPrefix(entry, "KONSTRUCT_") {
			kept = append(kept, entry)
		}
	}
	return kept
}
