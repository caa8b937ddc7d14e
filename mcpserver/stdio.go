package mcpserver

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// ServeStdio serves one client over a stream of lines, until the stream ends or ctx does. What is no message is refused
// here: the SDK would end the connection.
func (s *Server) ServeStdio(ctx context.Context, caller Caller, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ctx = context.WithValue(ctx, connectionKey{}, &connection{Caller: caller, life: ctx})
	to := &frameWriter{w: out}
	read, write := io.Pipe()
	session, err := s.of(caller.Principal).Connect(ctx, &mcp.IOTransport{Reader: read, Writer: to}, nil)
	if err != nil {
		return fmt.Errorf("serve over stdio: %w", err)
	}
	go func() {
		write.CloseWithError(readFrames(in, to, func(_ *frame, raw []byte) error {
			_, err := write.Write(append(raw, '\n'))
			return err
		}))
	}()
	defer context.AfterFunc(ctx, func() { read.CloseWithError(ctx.Err()) })()
	if err := session.Wait(); err != nil && ctx.Err() == nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("serve over stdio: %w", err)
	}
	return nil
}

// readFrames calls a function with each message of a stream of lines, and answers what is none. It returns nil at the
// stream's end.
func readFrames(in io.Reader, to *frameWriter, each func(f *frame, raw []byte) error) error {
	lines := bufio.NewReaderSize(in, 64<<10)
	for {
		line, long, err := readLine(lines)
		switch {
		case long:
			refused := &FrameError{Code: codeInvalid, Reason: fmt.Sprintf("the frame has more than %d bytes", MaxFrame)}
			if err := to.send(refused.Frame()); err != nil {
				return err
			}
		case len(bytes.TrimSpace(line)) > 0:
			f, refused := readFrame(line)
			if refused != nil {
				if err := to.send(refused.Frame()); err != nil {
					return err
				}
				break
			}
			if f.Method == "" { // a response, to what nobody has asked
				break
			}
			if err := each(&f, bytes.TrimSpace(line)); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// readLine reads a line, and of one that is too long nothing.
func readLine(lines *bufio.Reader) (line []byte, long bool, err error) {
	for {
		part, err := lines.ReadSlice('\n')
		if long = long || len(line)+len(part) > MaxFrame+2; !long {
			line = append(line, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			if long {
				line = nil
			}
			return line, long, err
		}
	}
}

// frameWriter writes frames whole: the SDK and the reader of what is none both answer.
type frameWriter struct {
	mu sync.Mutex
	w  io.Writer
}

// Write implements io.Writer.
func (t *frameWriter) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.w.Write(p)
}

// Close implements io.Closer: the stream is its caller's.
func (t *frameWriter) Close() error { return nil }

// send writes a frame as a line.
func (t *frameWriter) send(frame []byte) error {
	_, err := t.Write(append(bytes.ReplaceAll(frame, []byte("\n"), []byte(" ")), '\n'))
	return err
}
