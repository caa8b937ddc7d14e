package evidence

import (
	"archive/zip"
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/plural"
)

// Trust is what the verifier knows independently of the bundle.
type Trust struct {
	// Key is the notary's newest key, or an older one from which the bundle proves the rotation to the newest.
	// Required.
	Key ledger.Key
	// Witnesses are the trusted witnesses, and Quorum how many of them must have cosigned.
	Witnesses []ledger.Verifier
	Quorum    int
	// Authorities are the roots of the trusted time-stamping authorities. If nil, time-stamps are not verified.
	Authorities *x509.CertPool
	// Receipts are signed receipts whose promises the bundle must keep.
	Receipts []string
	// Texts are texts that a search in the bundle must have returned, byte for byte.
	Texts []Text
	// Floor is the least number of days that a retention rule may keep events; 0 means no check. DefaultFloor is what
	// the EU's AI Act requires.
	Floor int
	// Event, if not nil, is called with each matching event, in the log's order. The events are proven only if the
	// result is OK.
	Event func(*ledger.Record) error
	// Progress, if not nil, is called with the number of leaves read and their total.
	Progress func(done, total int64)
}

// Problem is a check that failed.
type Problem struct {
	Event       string `json:"event_id,omitempty"`
	Location    string `json:"place,omitempty"`
	Description string `json:"what"`
}

// Result is the result of a verification.
type Result struct {
	Tenant    string    `json:"tenant_id,omitempty"`
	Filter    Filter    `json:"filter"`
	Withheld  []string  `json:"withheld,omitempty"`
	From      time.Time `json:"from,omitzero"` // zero: from the log's first event
	To        time.Time `json:"to,omitzero"`
	Signed    time.Time `json:"signed_at,omitzero"`
	Matching  int64     `json:"matching_events"`
	Excluded  int64     `json:"excluded_events"`
	Undecided int64     `json:"undecided_events"` // events of which a field that the filter needs was erased
	Deleted   int64     `json:"deleted_events"`
	Waiting   int64     `json:"waiting_events"` // sealed but in no log when the bundle was made, by its maker's claim
	// Late is how many events claim a recorded time long before that of events ahead of them in the log.
	Late      int64                `json:"late_events"`
	Acts      []*Act               `json:"acts,omitempty"` // acts that erased or deleted something
	Witnesses []ledger.Cosignature `json:"witnesses"`
	Stamped   time.Time            `json:"stamped_at,omitzero"` // by the time-stamping authority's clock
	Holds     []string             `json:"holds"`               // the checks that passed, in plain English
	Notes     []string             `json:"notes"`               // what was not checked, and caveats
	Problems  []Problem            `json:"problems"`            // the first 1,000
	Count     int64                `json:"problem_count"`
}

// OK reports whether no check failed.
func (r *Result) OK() bool { return r.Count == 0 }

// maxProblems is how many problems are listed.
const maxProblems = 1000

func (r *Result) problem(event, place, format string, args ...any) {
	r.Count++
	if len(r.Problems) < maxProblems {
		r.Problems = append(r.Problems, Problem{event, place, fmt.Sprintf(format, args...)})
	}
}

// Verify verifies a bundle of size bytes with what the verifier trusts. An error means that the bundle could not be
// read; checks that failed are in the result. Memory use is bounded, whatever the bundle contains.
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
	c := &bundleCheck{Result: &Result{Tenant: m.Tenant, Filter: m.Filter, Withheld: m.Withheld, Waiting: m.Waiting,
		Witnesses: []ledger.Cosignature{}, Holds: []string{}, Notes: []string{}, Problems: []Problem{}}, m: &m, t: t,
		tenant: tenant}
	if !c.chain() || !c.heads() {
		return c.Result, nil // the other checks depend on these
	}
	if f := files[actsFile]; f != nil {
		raw, err := readSmall(f, maxActs)
		if err != nil {
			return nil, err
		}
		if err := c.readActs(bufio.NewReader(bytes.NewReader(raw))); err != nil {
			return nil, err
		}
		c.judge()
	}
	leaves, err := files[leavesFile].Open()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", leavesFile, err)
	}
	defer leaves.Close()
	if err := c.leaves(bufio.NewReaderSize(leaves, 1<<18)); err != nil {
		return nil, err
	}
	if m.Overdue > 0 {
		c.problem("", "waiting", "when it was made, %s of the tenant's %s sealed and not in the log though %s should "+
			"have been, says its maker: what was left out is not known", plural.Of(m.Overdue, "event", "events"),
			plural.Word(m.Overdue, "was", "were"), plural.Word(m.Overdue, "it", "they"))
	}
	if err := c.summary(files[summaryFile]); err != nil {
		return nil, err
	}
	c.witnesses()
	authority := c.stamp()
	c.receipts()
	c.textsShown()
	c.describe(authority)
	return c.Result, nil
}

// open returns a bundle's files by name. It fails if one is missing, twice or unknown.
func open(bundle io.ReaderAt, size int64) (map[string]*zip.File, error) {
	z, err := zip.NewReader(bundle, size)
	if err != nil {
		return nil, fmt.Errorf("not a bundle: %w", err)
	}
	files := map[string]*zip.File{manifestFile: nil, leavesFile: nil, actsFile: nil, summaryFile: nil}
	for _, f := range z.File {
		at, known := files[f.Name]
		switch {
		case !known:
			return nil, fmt.Errorf("not a bundle: it holds %.80q, which no bundle does", f.Name)
		case at != nil:
			return nil, fmt.Errorf("not a bundle: it holds %s twice", f.Name)
		case (f.Name == leavesFile || f.Name == actsFile) && f.Method != zip.Store:
			return nil, fmt.Errorf("not a bundle: %s is compressed", f.Name)
		}
		files[f.Name] = f
	}
	if z.Comment != "" {
		return nil, errors.New("not a bundle: the file has a comment")
	}
	if err := exactArchive(bundle, size, z.File); err != nil {
		return nil, fmt.Errorf("not a bundle: %w", err)
	}
	for name, f := range files {
		if f == nil && name != actsFile {
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

// bundleCheck is a verification in progress.
type bundleCheck struct {
	*Result
	m      *Manifest
	t      Trust
	tenant [16]byte
	key    ledger.Key // the key that signed the super-log's checkpoint
	keys   []ledger.Key
	super  ledger.Checkpoint

	from, to, last ledger.Checkpoint
	promises       map[[16]byte][]*receiptPromise // receipts, by event id
	examined       map[string]*text               // texts that a search must have returned, by SHA-256 in hex
	order          []*receiptPromise
	erasures       map[erasure]*Act // proven erasures, by event and field
	gone           map[int64][]*Act // proven retention acts, by the tiles of the leaves that they deleted
	acts           []*Act           // all proven acts, including those that only restrict others
	listed         []listedEvent    // the first matching events, for the summary page
	listedBefore   []listedEvent    // the same, as bundles listed them before texts were cut between characters
	newest         time.Time        // the newest recorded time of the range's events so far
}

// judge checks the acts against the rules, holds, requests and refusals before them, and the age of what they deleted
// against signed checkpoints.
func (c *bundleCheck) judge() {
	type age struct {
		size int64
		at   time.Time
	}
	var ages []age
	for i := range c.m.Sizes {
		a := &c.m.Sizes[i]
		before := c.Count
		cp := c.openHead(fmt.Sprintf("of age %d", i+1), &a.Head)
		if c.Count > before {
			continue
		}
		proof := make([]ledger.Hash, len(a.Consistency))
		for i, h := range a.Consistency {
			proof[i] = ledger.Hash(h)
		}
		if err := c.last.Extends(cp, proof); err != nil {
			c.problem("", "ages", "the newest checkpoint does not go on from the one of size %d: %v", cp.Size, err)
			continue
		}
		ages = append(ages, age{cp.Size, a.At.Time()})
	}
	slices.SortStableFunc(c.acts, func(a, b *Act) int { return cmp.Compare(a.leaf, b.leaf) })
	j := ComplianceJudge{Floor: c.t.Floor, Signed: func(leaf int64) (at time.Time, err error) {
		for _, a := range ages {
			if a.size > leaf && (at.IsZero() || a.at.Before(at)) {
				at = a.at
			}
		}
		if at.IsZero() {
			err = errors.New("the bundle has no checkpoint that says so; one made now has")
		}
		return at, err
	}}
	for _, r := range j.Rule(c.acts) {
		c.problem(r.Event, actsFile, "%s", r.Verdict)
	}
}

// summary makes the summary page again from what is proven, and compares it with the bundle's, byte for byte.
func (c *bundleCheck) summary(f *zip.File) error {
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
		return nil
	}
	if !c.OK() {
		return nil // without proven content there is nothing to compare it with
	}
	for _, listed := range [][]listedEvent{c.listed, c.listedBefore} {
		proven := sha256.New()
		if err := writeSummary(proven, c.m, c.Excluded, c.Deleted, c.Acts[:min(len(c.Acts), maxListed)],
			listed); err != nil {
			return fmt.Errorf("%s: %w", summaryFile, err)
		}
		if Hash(proven.Sum(nil)) == c.m.Summary {
			return nil
		}
	}
	c.problem("", summaryFile, "it does not say what the bundle proves: do not read it")
	return nil
}

// ClockSlack is how far a range must extend beyond the filter's time: the database's clock says when an event was
// recorded, the notary's when a checkpoint was signed, and the two may differ.
const ClockSlack = time.Minute

// chain verifies the rotations from the trusted key to the one that signed the bundle, and opens the super-log's
// checkpoint.
func (c *bundleCheck) chain() bool {
	const maxKeys = 1000
	if len(c.m.Keys) == 0 || len(c.m.Keys) > maxKeys {
		c.problem("", "keys", "the bundle names %s", plural.Of(len(c.m.Keys), "key", "keys"))
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
		c.problem("", "keys",
			"the bundle was not signed with the key you gave, %s, nor with one that it leads on to: it names %s",
			c.t.Key, c.keys[len(c.keys)-1])
		return false
	}
	for i := trusted + 1; i < len(c.keys); i++ {
		k := c.m.Keys[i]
		at, err := ledger.OpenCheckpoint(k.Rotation, c.keys[i-1])
		if err == nil {
			err = inTree(at, k.Index, ledger.LeafHash(ledger.KeyLeaf(k.At, c.keys[i])), k.RotationProof)
		}
		if err != nil {
			c.problem("", "keys", "the rotation to key %s is not signed by the key before it: %v", c.keys[i], err)
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

// inTree verifies that a checkpoint's tree has a leaf.
func inTree(c ledger.Checkpoint, index int64, leaf ledger.Hash, proof []Hash) error {
	p := make([]ledger.Hash, len(proof))
	for i, h := range proof {
		p[i] = ledger.Hash(h)
	}
	return c.Includes(index, leaf, p)
}

// openHead opens one of the tenant's checkpoints, and verifies that the super-log has it with its time, and that its
// key was not retired then.
func (c *bundleCheck) openHead(what string, h *Head) (cp ledger.Checkpoint) {
	var err error
	for i := len(c.keys) - 1; i >= 0; i-- {
		if i+1 < len(c.keys) && c.m.Keys[i+1].Index <= h.Index {
			break // retired, as all before it are
		}
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

// heads opens the tenant's checkpoints, verifies that the super-log has them, and that their range covers the filter's
// time.
func (c *bundleCheck) heads() bool {
	before, open := c.Count, c.openHead
	if c.m.From != nil {
		c.from = open("that the range begins at", c.m.From)
		c.From = c.m.From.At.Time()
	}
	c.to, c.last = open("that the range ends at", &c.m.To), open("that is the newest", &c.m.LastSigned)
	c.To, c.Signed = c.m.To.At.Time(), c.m.LastSigned.At.Time()
	if c.Count > before {
		return false
	}
	f := c.m.Filter
	if c.from.Size > c.to.Size || c.to.Size > c.last.Size {
		c.problem("", "range", "its checkpoints are of sizes %d, %d and %d", c.from.Size, c.to.Size, c.last.Size)
	}
	// An event enters the log after its recorded time. So a range that begins before the filter's time, and ends after
	// it or at the log's end, is complete.
	if c.m.From != nil && (f.Since.IsZero() || c.From.Add(ClockSlack).After(f.Since)) {
		c.problem("", "range", "it begins at %s, after the time asked for: what was recorded before is missing",
			c.From.Format(time.RFC3339))
	}
	if c.to != c.last && (f.Until.IsZero() || c.To.Before(f.Until.Add(ClockSlack))) {
		c.problem("", "range",
			"it ends at %s, before the time asked for, and the log goes on: what was recorded after is missing",
			c.To.Format(time.RFC3339))
	}
	return c.Count == before
}
