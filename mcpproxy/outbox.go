package mcpproxy

import (
	"context"
	"io"
	"sync"
)

// maxQueued bounds the bytes of frames that wait to be written; one frame may exceed it.
const maxQueued = 64 << 20

// outbox writes frames to the client in the order in which they came. A frame waits until its calls are recorded, and
// the recordings of several frames go on at the same time.
type outbox struct {
	w      io.Writer
	broken context.CancelFunc // called when the client can't be written to

	whole sync.Mutex // held while a frame is queued, in one piece or several

	mu     sync.Mutex
	change *sync.Cond
	queue  []*queued
	bytes  int
	closed bool
	failed error
	done   chan struct{}
}

// queued is a frame, or a piece of one.
type queued struct {
	frame []byte
	ready chan struct{} // closed when it may be written; nil: at once
}

func newOutbox(w io.Writer, broken context.CancelFunc) *outbox {
	o := &outbox{w: w, broken: broken, done: make(chan struct{})}
	o.change = sync.NewCond(&o.mu)
	go o.run()
	return o
}

// put queues a whole frame with its newline. It waits while too much is queued.
func (o *outbox) put(frame []byte) {
	o.whole.Lock()
	defer o.whole.Unlock()
	o.add(&queued{frame: frame})
}

// hold queues a whole frame that is written once release is called; with a frame, that one is written instead.
func (o *outbox) hold(frame []byte) (release func(instead []byte)) {
	o.whole.Lock()
	defer o.whole.Unlock()
	return o.holdPiece(frame)
}

// holdPiece is hold for a piece; the caller holds whole.
func (o *outbox) holdPiece(frame []byte) (release func(instead []byte)) {
	q := &queued{frame: frame, ready: make(chan struct{})}
	o.add(q)
	return func(instead []byte) {
		if instead != nil {
			o.mu.Lock()
			o.bytes += len(instead) - len(q.frame)
			q.frame = instead
			o.mu.Unlock()
		}
		close(q.ready)
	}
}

func (o *outbox) add(q *queued) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.bytes > 0 && o.bytes+len(q.frame) > maxQueued {
		o.change.Wait()
	}
	o.queue = append(o.queue, q)
	o.bytes += len(q.frame)
	o.change.Broadcast()
}

func (o *outbox) run() {
	defer close(o.done)
	for {
		o.mu.Lock()
		for len(o.queue) == 0 && !o.closed {
			o.change.Wait()
		}
		if len(o.queue) == 0 {
			o.mu.Unlock()
			return
		}
		q := o.queue[0]
		o.mu.Unlock()
		if q.ready != nil {
			<-q.ready
		}
		if o.failed == nil { // only this goroutine writes it before done
			if _, o.failed = o.w.Write(q.frame); o.failed != nil {
				o.broken()
			}
		}
		o.mu.Lock()
		o.queue[0] = nil
		o.queue = o.queue[1:]
		o.bytes -= len(q.frame)
		o.change.Broadcast()
		o.mu.Unlock()
	}
}

// close waits until everything is written, and returns the error of the writer.
func (o *outbox) close() error {
	o.mu.Lock()
	o.closed = true
	o.change.Broadcast()
	o.mu.Unlock()
	<-o.done
	return o.failed
}
