package evidence

import (
	"bufio"
	"fmt"
	"time"

	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/plural"
)

// leaves reads every leaf of the range, checks it against the filter, and verifies all leaves against the signed roots.
func (c *bundleCheck) leaves(from *bufio.Reader) error {
	total, n := c.to.Size-c.from.Size, int64(0)
	run := ledger.NewRange(c.from.Size)
	rule, err := c.m.rule()
	if err != nil {
		return fmt.Errorf("%s: %w", manifestFile, err)
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
			if err := c.record(r, c.from.Size+n+int64(i), batch.hashes[i], &rule); err != nil {
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
		c.problem("", leavesFile, "it holds %s, and the range from %d to %d has %d", plural.Of(n, "leaf", "leaves"),
			c.from.Size, c.to.Size, total)
		return nil
	}
	if c.Matching != c.m.Matching {
		c.problem("", manifestFile, "it says that %s, and %s", plural.Of(c.m.Matching, "event matches", "events match"),
			plural.Of(c.Matching, "does", "do"))
	}
	return c.roots(run)
}

// roots verifies the leaves, joined with the log before and after the range, against the signed roots.
func (c *bundleCheck) roots(run ledger.Range) error {
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
		c.problem("", leavesFile, "the events do not lead to the root signed at size %d: one of leaves %d to %d was "+
			"changed, removed, swapped or put in", c.to.Size, c.from.Size, c.to.Size-1)
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

func (c *bundleCheck) part(place string, begin, end int64, hashes []Hash) (ledger.Range, error) {
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

// record decides whether an event matches the filter, and checks that its record opens the fields that prove it, and no
// others.
func (c *bundleCheck) record(r *ledger.Record, index int64, hash ledger.Hash, rule *filterRule) error {
	c.receipt(r, hash)
	c.texts(r)
	c.checkActs(r, index)
	c.inTime(r)
	opened := 0
	for i := range r.Shown {
		if r.Shown[i].Open {
			opened++
		}
	}
	id := func() string { return ledger.FormatID(r.ID) }
	switch is, unproven := c.decide(r, rule); {
	case r.Gone:
		c.Deleted++
	case !rule.filter.inTime(r.RecordedAt):
		c.Excluded++
		if opened > 0 {
			c.problem(id(), "", "was recorded outside the time asked for, and shows %s: the filter was changed",
				plural.Of(opened, "field", "fields"))
		}
	case is == excluded:
		c.Excluded++
		if opened > 1 {
			c.problem(id(), "",
				"does not match the filter, and shows %d fields where one is enough: the filter was changed", opened)
		}
	case unproven != 0:
		c.problem(id(), "", "shows neither that it matches the filter nor that it does not: its %s is not opened",
			unproven)
	case is == undecided:
		c.Undecided++
		if opened > 0 {
			c.problem(id(), "", "can't be decided, because a field of the filter was erased, and shows %s: "+
				"the filter was changed", plural.Of(opened, "field", "fields"))
		}
	default:
		return c.match(r, rule)
	}
	return nil
}

// decide decides from the opened fields whether an event matches; unproven is a field that should be opened and is not.
func (c *bundleCheck) decide(r *ledger.Record, rule *filterRule) (is verdict, unproven ledger.Field) {
	is = matches
	for _, k := range rule.conditions {
		switch s := &r.Shown[k.field-1]; {
		case r.Erased.Has(k.field):
			is = undecided
		case !s.Open:
			unproven = k.field
		case s.Null || !k.holds(s.Value):
			return excluded, 0
		}
	}
	if is == undecided {
		unproven = 0 // such an event opens no fields
	}
	return is, unproven
}

// match counts an event that matches. It checks that every field is opened, withheld or erased.
func (c *bundleCheck) match(r *ledger.Record, rule *filterRule) error {
	c.Matching++
	for f := ledger.AgentID; f <= ledger.Metadata; f++ {
		if !r.Shown[f-1].Open && !rule.withheld[f] && !r.Erased.Has(f) {
			c.problem(ledger.FormatID(r.ID), "",
				"matches, and its %s is neither shown nor said to be withheld or erased", f)
		}
	}
	if len(c.listed) < maxListed {
		c.listed = append(c.listed, listEvent(r, cutText))
		c.listedBefore = append(c.listedBefore, listEvent(r, cutBytes))
	}
	if c.t.Event != nil {
		return c.t.Event(r)
	}
	return nil
}

// lateAfter is the time after which an event that is recorded but in no checkpoint counts as late: the promised time
// plus the allowed difference of clocks.
const lateAfter = ledger.IntegrateWithin + ClockSlack

// inTime checks an event's recorded time against the checkpoints around it and the events before it in the log.
func (c *bundleCheck) inTime(r *ledger.Record) {
	if r.Gone {
		return
	}
	at := r.RecordedAt.Time()
	if at.After(c.To.Add(ClockSlack)) {
		c.problem(ledger.FormatID(r.ID), "", "says that it was recorded at %s, and the checkpoint of %s has it already",
			timeText(r.RecordedAt), c.To.Format(time.RFC3339))
	}
	if late := at.Add(lateAfter); c.m.From != nil && late.Before(c.From) || late.Before(c.newest) {
		c.Late++
	}
	if at.After(c.newest) {
		c.newest = at
	}
}
