package evidence

import (
	"bufio"
	"errors"
	"io"
	"iter"

	"github.com/konstruct/konstruct/ledger"
)

// batch is a number of leaves with their hashes.
type batch struct {
	records []ledger.Record
	hashes  []ledger.Hash
	err     error
}

// batchSize is how many leaves are hashed at a time, while the next ones are read.
const batchSize = 512

var errTooMany = errors.New("there are more leaves than the range has")

// batches reads leaves, hashes them on other cores, and yields them in order. A batch is valid until the next one is
// yielded.
func batches(from *bufio.Reader, tenant [16]byte, total int64) iter.Seq[*batch] {
	return func(yield func(*batch) bool) {
		const ahead = 8 // batches in flight: a few megabytes, however long the file is
		free, work, stop := make(chan *batch, ahead), make(chan chan *batch, ahead), make(chan struct{})
		defer close(stop)
		for range ahead {
			free <- &batch{}
		}
		go func() {
			defer close(work)
			for left := total; ; {
				var b *batch
				select {
				case b = <-free:
				case <-stop:
					return
				}
				last := b.read(from, tenant, &left)
				done := make(chan *batch, 1)
				go func() { b.hash(); done <- b }()
				select {
				case work <- done:
				case <-stop:
					return
				}
				if last {
					return
				}
			}
		}()
		for done := range work {
			b := <-done
			if len(b.records) > 0 || b.err != nil {
				err := b.err
				b.err = nil // the leaves before the error are yielded first
				if len(b.records) > 0 && !yield(b) {
					return
				}
				if err != nil {
					yield(&batch{err: err})
					return
				}
			}
			free <- b
		}
	}
}

// read fills a batch; it returns true if the batch is the last one.
func (b *batch) read(from *bufio.Reader, tenant [16]byte, left *int64) bool {
	b.records, b.err = b.records[:0], nil
	for len(b.records) < batchSize {
		n := len(b.records)
		if n < cap(b.records) {
			b.records = b.records[:n+1] // reuse its values' memory
		} else {
			b.records = append(b.records, ledger.Record{})
		}
		r := &b.records[n]
		r.TenantID = tenant
		err := r.Read(from)
		if err == nil && *left == 0 {
			err = errTooMany
		}
		if err != nil {
			b.records = b.records[:n]
			if !errors.Is(err, io.EOF) {
				b.err = err
			}
			return true
		}
		*left--
	}
	return false
}

func (b *batch) hash() {
	b.hashes = b.hashes[:0]
	for i := range b.records {
		b.hashes = append(b.hashes, b.records[i].Hash())
	}
}
