package evidence

import (
	"archive/zip"
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/konstruct/konstruct/ledger"
)

// Writer makes a bundle. Call Add or Deleted for each leaf of the range in the log's order, then Act for each act, then
// Close.
type Writer struct {
	m                       Manifest
	rule                    filterRule
	zip                     *zip.Writer
	leaves                  *bufio.Writer
	buf                     []byte
	listed                  []listedEvent
	acts                    []*Act // the first ones, for the summary page
	actsTo                  io.Writer
	deleted                 int64
	excluded, excludedBytes int64
}

// NewWriter begins a bundle. It sets the manifest's version and time; the Writer counts matching events, and Close adds
// the summary's hash.
func NewWriter(to io.Writer, m Manifest) (*Writer, error) {
	m.Version, m.CreatedAt = version, time.Now().UTC().Truncate(time.Second)
	rule, err := m.rule()
	if err != nil {
		return nil, err
	}
	w := &Writer{m: m, rule: rule, zip: zip.NewWriter(to)}
	// Stored, not compressed: hashes and salts do not compress, and what is stored can't be a zip bomb.
	leaves, err := w.zip.CreateHeader(&zip.FileHeader{Name: leavesFile, Method: zip.Store, Modified: w.m.CreatedAt})
	if err != nil {
		return nil, err
	}
	w.leaves = bufio.NewWriterSize(leaves, 1<<18)
	return w, nil
}

// Add writes the next leaf, with the fields open that the filter needs.
func (w *Writer) Add(r *ledger.Record, values *ledger.Values, salts *ledger.Salts,
	commitments *[ledger.Fields]ledger.Hash) error {
	open, is := w.rule.disclose(r.RecordedAt, values, salts.Erased())
	r.Show(values, salts, commitments, open)
	if err := w.write(r); err != nil {
		return err
	}
	switch is {
	case matches:
		w.m.Matching++
		if len(w.listed) < maxListed {
			w.listed = append(w.listed, listEvent(r, cutText))
		}
	case excluded:
		w.excluded, w.excludedBytes = w.excluded+1, w.excludedBytes+int64(len(w.buf))
	}
	return nil
}

// Deleted writes the next leaf for a deleted event, of which only the hash is left.
func (w *Writer) Deleted(id [16]byte, leaf ledger.Hash) error {
	w.deleted++
	return w.write(&ledger.Record{ID: id, Gone: true, Leaf: leaf})
}

func (w *Writer) write(r *ledger.Record) error {
	w.buf = r.AppendBinary(w.buf[:0])
	_, err := w.leaves.Write(w.buf)
	return err
}

// Act writes an event that records a compliance act, with all its fields open and its inclusion proof in the newest
// checkpoint. Acts come after the leaves.
func (w *Writer) Act(index int64, proof []ledger.Hash, r *ledger.Record) error {
	if w.actsTo == nil {
		if err := w.leaves.Flush(); err != nil {
			return err
		}
		var err error
		if w.actsTo, err = w.zip.CreateHeader(&zip.FileHeader{Name: actsFile, Method: zip.Store,
			Modified: w.m.CreatedAt}); err != nil {
			return err
		}
	}
	a, err := readAct(r)
	if err != nil {
		return err
	}
	switch {
	case a.declines():
		w.m.Version = version3
	case w.m.Version == version:
		w.m.Version = version2
	}
	if len(w.acts) < maxListed && !a.binds() {
		w.acts = append(w.acts, a)
	}
	_, err = w.actsTo.Write(appendAct(nil, index, proof, r))
	return err
}

// Age adds a checkpoint that proves the age of what was deleted.
func (w *Writer) Age(a TreeSize) { w.m.Sizes = append(w.m.Sizes, a) }

// Written describes a finished bundle.
type Written struct {
	Matching, Excluded int64
	ExcludedBytes      int64    // bytes that the events that do not match take
	Manifest           [32]byte // SHA-256 of the manifest
	Waiting            int64    // events that were in no log yet, and so are not in the bundle
}

// Close writes the summary and the manifest, and ends the bundle.
func (w *Writer) Close() (made Written, err error) {
	if w.actsTo == nil { // otherwise Act has flushed them
		if err := w.leaves.Flush(); err != nil {
			return made, err
		}
	}
	hash := sha256.New()
	page, err := w.zip.CreateHeader(&zip.FileHeader{Name: summaryFile, Method: zip.Deflate, Modified: w.m.CreatedAt})
	if err != nil {
		return made, err
	}
	if err := writeSummary(io.MultiWriter(page, hash), &w.m, w.excluded, w.deleted, w.acts, w.listed); err != nil {
		return made, fmt.Errorf("the summary: %w", err)
	}
	w.m.Summary = Hash(hash.Sum(nil))
	raw, err := w.m.text()
	if err != nil {
		return made, err
	}
	if len(raw) > maxManifest {
		return made, errors.New("the manifest is too long")
	}
	to, err := w.zip.CreateHeader(&zip.FileHeader{Name: manifestFile, Method: zip.Deflate, Modified: w.m.CreatedAt})
	if err != nil {
		return made, err
	}
	if _, err := to.Write(raw); err != nil {
		return made, err
	}
	return Written{Matching: w.m.Matching, Excluded: w.excluded, ExcludedBytes: w.excludedBytes,
		Manifest: sha256.Sum256(raw), Waiting: w.m.Waiting}, w.zip.Close()
}
