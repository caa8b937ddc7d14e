package evidence

import (
	"archive/zip"
	"bufio"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/konstruct/konstruct/ledger"
)

// Trust is what a verifier knows from elsewhere.
type Trust struct {
	// Key is the notary's: the newest, or an older one that the bundle leads on from. Required.
	Key ledger.Key
	// Witnesses are the witnesses believed, and Quorum how many of them must have cosigned.
	Witnesses []ledger.Verifier
	Quorum    int
	// Authorities are the roots of time-stamping authorities that are believed; nil: a time-stamp is not looked at.
	Authorities *x509.CertPool
	// Receipts are signed receipts to hold the bundle against.
	Receipts []string
	// Event, when not nil, hears of each proven event that matches, in the log's order.
	Event func(*ledger.Record) error
	// Progress, when not nil, hears how many leaves were read, of how many.
	Progress func(done, total int64)
}

// Problem is something that does not hold.
type Problem struct {
	Event string `json:"event_id,omitempty"`
	Place string `json:"place,omitempty"`
	What  string `json:"what"`
}

// Result is what a bundle proves.
type Result struct {
	Tenant    string               `json:"tenant_id,omitempty"`
	Filter    Filter               `json:"filter"`
	Withheld  []string             `json:"withheld,omitempty"`
	From      time.Time            `json:"from,omitzero"` // zero: from the log's first event
	To        time.Time            `json:"to,omitzero"`
	Signed    time.Time            `json:"signed_at,omitzero"`
	Matching  int64                `json:"matching_events"`
	Excluded  int64                `json:"excluded_events"`
	Witnesses []ledger.Cosignature `json:"witnesses"`
	Stamped   time.Time            `json:"stamped_at,omitzero"` // by the time-stamping authority's clock
	Holds     []string             `json:"holds"`               // in plain words
	Problems  []Problem            `json:"problems"`            // the first thousand
	Count     int64                `json:"problem_count"`
}

// OK reports whether everything holds.
func (r *Result) OK() bool { return r.Count == 0 }

// maxProblems bounds the list of problems.
const maxProblems = 1000

func (r *Result) problem(event, place, format string, args ...any) {
	r.Count++
	if len(r.Problems) < maxProblems {
		r.Problems = append(r.Problems, Problem{event, place, fmt.Sprintf(format, args...)})
	}
}

// Verify checks a bundle against what is known of its notary. An error says that it could not be read; what it fails to prove
// is in the result. Memory stays flat, whatever a stranger has put in.
func Verify(bundle io.ReaderAt, size int64, t Trust) (*Result, error) {
	files, err := open(bundle, size)
	if err != nil {
		return nil, err
	}
	raw, err := readSmall(files[manifestFile], maxManifest)
	if err != nil {
		return nil, err
	}
	m, err := readManifest(raw)
	if err != nil {
		return nil, err
	}
	tenant, err := ledger.ParseID(m.Tenant)
	if err != nil {
		return nil, fmt.Errorf("%s: tenant_id: %w", manifestFile, err)
	}
	c := &check{Result: &Result{Tenant: m.Tenant, Filter: m.Filter, Withheld: m.Withheld, Witnesses: []ledger.Cosignature{}, Holds: []string{}, Problems: []Problem{}}, m: &m, t: t, tenant: tenant}
	if !c.chain() || !c.heads() {
		return c.Result, nil // nothing below would mean anything
	}
	leaves, err := files[leavesFile].Open()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", leavesFile, err)
	}
	defer leaves.Close()
	if err := c.leaves(bufio.NewReaderSize(leaves, 1<<18)); err != nil {
		return nil, err
	}
	if err := c.summary(files[summaryFile]); err != nil {
		return nil, err
	}
	c.witnesses()
	authority := c.stamp()
	c.receipts()
	c.inWords(authority)
	return c.Result, nil
}

// open lists a bundle's files: those it must have, each once, and no others.
func open(bundle io.ReaderAt, size int64) (map[string]*zip.File, error) {
	z, err := zip.NewReader(bundle, size)
	if err != nil {
		return nil, fmt.Errorf("not a bundle: %w", err)
	}
	files := map[string]*zip.File{manifestFile: nil, leavesFile: nil, summaryFile: nil}
	for _, f := range z.File {
		at, known := files[f.Name]
		switch {
		case !known:
			return nil, fmt.Errorf("not a bundle: it holds %.80q, which no bundle does", f.Name)
		case at != nil:
			return nil, fmt.Errorf("not a bundle: it holds %s twice", f.Name)
		case f.Name == leavesFile && f.Method != zip.Store:
			return nil, fmt.Errorf("not a bundle: %s is compressed", f.Name)
		}
		files[f.Name] = f
	}
	for name, f := range files {
		if f == nil {
			return nil, fmt.Errorf("not a bundle: it lacks %s", name)
		}
	}
	return files, nil
}

func readSmall(f *zip.File, limit int64) ([]byte, error) {
	r, err := f.Open()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	defer r.Close()
	raw, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("%s is longer than %d bytes", f.Name, limit)
	}
	return raw, nil
}

// check is a verification under way.
type check struct {
	*Result
	m      *Manifest
	t      Trust
	tenant [16]byte
	key    ledger.Key // that signed the bundle's checkpoints
	keys   []ledger.Key
	super  ledger.Checkpoint

	from, to, last ledger.Checkpoint
	promised       map[[16]byte]*promise // receipts, by event
	order          []*promise
}

// summary only notices a changed page: what it says is not proof of anything.
func (c *check) summary(f *zip.File) error {
	r, err := f.Open()
	if err != nil {
		return fmt.Errorf("%s: %w", summaryFile, err)
	}
	defer r.Close()
	const limit = 64 << 20
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(r, limit+1))
	if err != nil {
		return fmt.Errorf("%s: %w", summaryFile, err)
	}
	if n > limit || Hash(h.Sum(nil)) != c.m.Summary {
		c.problem("", summaryFile, "it is not the page that the manifest names: do not read it")
	}
	return nil
}

// ClockSlack is by how much a range reaches beyond the time asked for: the database says when an event was
// recorded, and the notary when it signed, each by its own clock.
const ClockSlack = time.Minute

// chain leads from the key that is trusted to the one that signed the bundle, and opens the super-log's checkpoint.
func (c *check) chain() bool {
	const maxKeys = 1000
	if len(c.m.Keys) == 0 || len(c.m.Keys) > maxKeys {
		c.problem("", "keys", "the bundle names %d keys", len(c.m.Keys))
		return false
	}
	trusted := -1
	for i, k := range c.m.Keys {
		key, err := ledger.ParseKey(k.Key)
		if err != nil {
			c.problem("", "keys", "key %d: %v", i+1, err)
			return false
		}
		c.keys = append(c.keys, key)
		if key.Equal(c.t.Key) {
			trusted = i
		}
	}
	if trusted < 0 {
		c.problem("", "keys", "the bundle was not signed with the key you gave, %s, nor with one that it leads on to: it names %s", c.t.Key, c.keys[len(c.keys)-1])
		return false
	}
	for i := trusted + 1; i < len(c.keys); i++ {
		k := c.m.Keys[i]
		at, err := ledger.OpenCheckpoint(k.Rotation, c.keys[i-1])
		if err == nil {
			err = inTree(at, k.Index, ledger.LeafHash(ledger.KeyLeaf(k.At, c.keys[i])), k.RotationProof)
		}
		if err != nil {
			c.problem("", "keys", "key %s was not handed on to by the one before it: %v", c.keys[i], err)
			return false
		}
	}
	c.key = c.keys[len(c.keys)-1]
	var err error
	if c.super, err = ledger.OpenCheckpoint(c.m.Super, c.key); err != nil {
		c.problem("", "super-log", "its checkpoint: %v", err)
		return false
	}
	for i, k := range c.m.Keys {
		if err := inTree(c.super, k.Index, ledger.LeafHash(ledger.KeyLeaf(k.At, c.keys[i])), k.Proof); err != nil {
			c.problem("", "keys", "key %s is not in the super-log: %v", c.keys[i], err)
		}
	}
	return c.Count == 0
}

// inTree proves a leaf in a checkpoint's tree.
func inTree(c ledger.Checkpoint, index int64, leaf ledger.Hash, proof []Hash) error {
	p := make([]ledger.Hash, len(proof))
	for i, h := range proof {
		p[i] = ledger.Hash(h)
	}
	return c.Includes(index, leaf, p)
}

// heads opens the tenant's checkpoints and proves each in the super-log.
func (c *check) heads() bool {
	before := c.Count
	open := func(what string, h *Head) (cp ledger.Checkpoint) {
		var err error
		for i := len(c.keys) - 1; i >= 0; i-- {
			if cp, err = ledger.OpenCheckpoint(h.Checkpoint, c.keys[i].OfTenant(c.tenant)); err == nil {
				break
			}
		}
		if err == nil {
			err = inTree(c.super, h.Index, ledger.LeafHash(ledger.HeadLeaf(h.At, h.Salt, cp)), h.Proof)
		}
		if err != nil {
			c.problem("", "the checkpoint "+what, "of tenant %s: %v", c.Tenant, err)
		}
		return cp
	}
	if c.m.From != nil {
		c.from = open("that the range begins at", c.m.From)
		c.From = c.m.From.At.Time()
	}
	c.to, c.last = open("that the range ends at", &c.m.To), open("that is the newest", &c.m.Last)
	c.To, c.Signed = c.m.To.At.Time(), c.m.Last.At.Time()
	if c.Count > before {
		return false
	}
	f := c.m.Filter
	if c.from.Size > c.to.Size || c.to.Size > c.last.Size {
		c.problem("", "range", "its checkpoints are of sizes %d, %d and %d", c.from.Size, c.to.Size, c.last.Size)
	}
	// What was recorded at a time enters the log after it: a range that begins before the time asked for and ends
	// behind it, or with the log, leaves nothing out.
	if c.m.From != nil && (f.Since.IsZero() || c.From.Add(ClockSlack).After(f.Since)) {
		c.problem("", "range", "it begins at %s, after the time asked for: what was recorded before is missing", c.From.Format(time.RFC3339))
	}
	if c.to != c.last && (f.Until.IsZero() || c.To.Before(f.Until.Add(ClockSlack))) {
		c.problem("", "range", "it ends at %s, before the time asked for, and the log goes on: what was recorded after is missing", c.To.Format(time.RFC3339))
	}
	return c.Count == before
}

// leaves reads every leaf of the range, holds it against the filter, and all of them against the signed roots.
func (c *check) leaves(from *bufio.Reader) error {
	total, n := c.to.Size-c.from.Size, int64(0)
	run := ledger.NewRange(c.from.Size)
	conditions, err := c.m.Filter.conditions()
	if err != nil {
		return fmt.Errorf("%s: filter: %w", manifestFile, err)
	}
	withheld, err := c.m.withheld()
	if err != nil {
		return fmt.Errorf("%s: withheld: %w", manifestFile, err)
	}
	var parsed error
	for batch := range batches(from, c.tenant, total) {
		if batch.err != nil {
			parsed = batch.err
			break
		}
		for i := range batch.records {
			r := &batch.records[i]
			if err := run.Append(batch.hashes[i]); err != nil {
				return err
			}
			if err := c.record(r, batch.hashes[i], conditions, withheld); err != nil {
				return err
			}
		}
		n += int64(len(batch.records))
		if c.t.Progress != nil {
			c.t.Progress(n, total)
		}
	}
	if parsed != nil {
		c.problem("", leavesFile, "leaf %d: %v", c.from.Size+n, parsed)
		return nil
	}
	if n != total {
		c.problem("", leavesFile, "it holds %d leaves, and the range from %d to %d has %d", n, c.from.Size, c.to.Size, total)
		return nil
	}
	if c.Matching != c.m.Matching {
		c.problem("", manifestFile, "it says that %d events match, and %d do", c.m.Matching, c.Matching)
	}
	return c.roots(run)
}

// roots holds the leaves, joined with what stands before and behind them, against the signed roots.
func (c *check) roots(run ledger.Range) error {
	tree, err := c.part("before", 0, c.from.Size, c.m.Before)
	if err != nil {
		return nil
	}
	if root, err := tree.Root(); c.from.Size > 0 && (err != nil || root != c.from.Root) {
		c.problem("", "before", "what stands before the range does not lead to the root signed at size %d", c.from.Size)
		return nil
	}
	if err := tree.Join(run); err != nil {
		return err
	}
	if root, err := tree.Root(); err != nil || root != c.to.Root {
		c.problem("", leavesFile, "the events do not lead to the root signed at size %d: one of leaves %d to %d was changed, removed, swapped or put in", c.to.Size, c.from.Size, c.to.Size-1)
		return nil
	}
	after, err := c.part("after", c.to.Size, c.last.Size, c.m.After)
	if err != nil {
		return nil
	}
	if err := tree.Join(after); err != nil {
		return err
	}
	if root, err := tree.Root(); err != nil || root != c.last.Root {
		c.problem("", "after", "the range is not part of the log as it was signed last, at size %d", c.last.Size)
	}
	return nil
}

func (c *check) part(place string, begin, end int64, hashes []Hash) (ledger.Range, error) {
	list := make([]ledger.Hash, len(hashes))
	for i, h := range hashes {
		list[i] = ledger.Hash(h)
	}
	r, err := ledger.ReadRange(begin, end, list)
	if err != nil {
		c.problem("", place, "%v", err)
	}
	return r, err
}

// record decides whether an event matches, and holds that it shows what it must for that.
func (c *check) record(r *ledger.Record, hash ledger.Hash, conditions []condition, withheld map[ledger.Field]bool) error {
	c.receipt(r, hash)
	opened := 0
	for i := range r.Shown {
		if r.Shown[i].Open {
			opened++
		}
	}
	excludedBy := func() bool {
		for _, k := range conditions {
			if s := &r.Shown[k.field-1]; s.Open && (s.Null || string(s.Value) != string(k.value)) {
				return true
			}
		}
		return false
	}
	id := func() string { return ledger.FormatID(r.ID) }
	switch {
	case !c.m.Filter.inTime(r.RecordedAt):
		c.Excluded++
		if opened > 0 {
			c.problem(id(), "", "was recorded outside the time asked for, and shows %d fields: the filter was changed", opened)
		}
		return nil
	case excludedBy():
		c.Excluded++
		if opened > 1 {
			c.problem(id(), "", "does not match the filter, and shows %d fields where one is enough: the filter was changed", opened)
		}
		return nil
	}
	for _, k := range conditions {
		if !r.Shown[k.field-1].Open {
			c.problem(id(), "", "shows neither that it matches the filter nor that it does not: its %s is not opened", k.field)
			return nil
		}
	}
	c.Matching++
	for f := ledger.AgentID; f <= ledger.Metadata; f++ {
		if !r.Shown[f-1].Open && !withheld[f] {
			c.problem(id(), "", "matches, and its %s is neither shown nor said to be withheld", f)
		}
	}
	if c.t.Event != nil {
		return c.t.Event(r)
	}
	return nil
}

// witnesses counts those among the believed that cosigned.
func (c *check) witnesses() {
	if len(c.t.Witnesses) > 0 {
		said, err := ledger.Cosignatures(c.m.Super, c.t.Witnesses)
		if err != nil {
			c.problem("", "witnesses", "a cosignature is forged: %v", err)
		}
		c.Witnesses = append(c.Witnesses, said...)
	}
	if len(c.Witnesses) < c.t.Quorum {
		c.problem("", "witnesses", "%d of the witnesses you trust cosigned, and %d must have", len(c.Witnesses), c.t.Quorum)
	}
}

// stamp checks the time-stamp against the roots that are believed, and returns who gave it.
func (c *check) stamp() string {
	if c.t.Authorities == nil {
		return ""
	}
	s := c.m.Stamp
	if s == nil {
		c.problem("", "time-stamp", "the bundle holds none, and you named whom you would believe")
		return ""
	}
	then := ledger.Checkpoint{Origin: c.super.Origin, Size: s.Size, Root: ledger.Hash(s.Root)}
	proof := make([]ledger.Hash, len(s.Proof))
	for i, h := range s.Proof {
		proof[i] = ledger.Hash(h)
	}
	if err := c.super.Extends(then, proof); err != nil {
		c.problem("", "time-stamp", "%v", err)
		return ""
	}
	t, err := ledger.VerifyTimestamp(s.Token, then.Text(), c.t.Authorities)
	if err != nil {
		c.problem("", "time-stamp", "%v", err)
		return ""
	}
	c.Stamped = t.At
	return t.Authority
}

// inWords says what holds.
func (c *check) inWords(authority string) {
	if !c.OK() {
		return
	}
	say := func(format string, args ...any) { c.Holds = append(c.Holds, fmt.Sprintf(format, args...)) }
	from := "its first event"
	if c.m.From != nil {
		from = c.From.Format(time.RFC3339)
	}
	say("authentic: signed by %s, for tenant %s", c.key, c.Tenant)
	say("unaltered: each of the %d events shown is, in every field opened, what was sealed when it was recorded", c.Matching)
	say("complete for: %s. All %d events that entered the log between %s and %s are accounted for; %d are shown not to match", c.m.Filter, c.Matching+c.Excluded, from, c.To.Format(time.RFC3339), c.Excluded)
	say("signed at %s as part of a log of %d events", c.Signed.Format(time.RFC3339), c.last.Size)
	if len(c.Withheld) > 0 {
		say("withheld from the events that match: %v", c.Withheld)
	}
	for _, w := range c.Witnesses {
		say("witnessed by %s at %s", w.Witness, time.Unix(w.At, 0).UTC().Format(time.RFC3339))
	}
	switch {
	case authority != "" && c.m.To.Index < c.m.Stamp.Size:
		say("existed by %s, says %s: everything in the range stood in the log that it time-stamped", c.Stamped.Format(time.RFC3339), authority)
	case authority != "":
		say("time-stamped by %s at %s, before the range ends: what entered the log later has no time but the notary's", authority, c.Stamped.Format(time.RFC3339))
	}
	if len(c.Witnesses) == 0 {
		say("witnessed by nobody that you named: that the notary shows everybody the same log rests on its word")
	}
}

// batch is some leaves, read and hashed.
type batch struct {
	records []ledger.Record
	hashes  []ledger.Hash
	err     error
}

// batchSize is how many leaves are hashed at once, beside the reading of the next.
const batchSize = 512

var errMore = errors.New("there are more leaves than the range has")
