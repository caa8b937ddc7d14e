package evidence

import (
	"fmt"
	"time"

	"github.com/konstruct/konstruct/ledger"
)

// witnesses checks that enough of the trusted witnesses cosigned.
func (c *bundleCheck) witnesses() {
	if len(c.t.Witnesses) > 0 {
		cosigned, err := ledger.Cosignatures(c.m.Super, c.t.Witnesses)
		if err != nil {
			c.problem("", "witnesses", "a cosignature is forged: %v", err)
		}
		c.Witnesses = append(c.Witnesses, cosigned...)
	}
	if len(c.Witnesses) < c.t.Quorum {
		c.problem("", "witnesses", "%d of the witnesses you trust cosigned, and %d must have",
			len(c.Witnesses), c.t.Quorum)
	}
}

// stamp verifies the time-stamp against the trusted roots, and returns the authority's name.
func (c *bundleCheck) stamp() string {
	if c.t.Authorities == nil {
		return ""
	}
	s := c.m.Stamp
	if s == nil {
		c.problem("", "time-stamp", "the bundle has none, but you named trusted authorities (--tsa)")
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

// maxDescribed is how many acts are described.
const maxDescribed = 20

// describe adds what is proven, and caveats, to the result in plain English.
func (c *bundleCheck) describe(authority string) {
	if !c.OK() {
		return
	}
	say := func(format string, args ...any) { c.Holds = append(c.Holds, fmt.Sprintf(format, args...)) }
	note := func(format string, args ...any) { c.Notes = append(c.Notes, fmt.Sprintf(format, args...)) }
	from := "its first event"
	if c.m.From != nil {
		from = c.From.Format(time.RFC3339)
	}
	say("authentic: signed by %s, for tenant %s", c.key, c.Tenant)
	say("unaltered: each of the %d events shown is, in every field opened, what was sealed when it was recorded",
		c.Matching)
	complete := fmt.Sprintf("complete for: %s. All %d events that entered the log between %s and %s are accounted "+
		"for; %d are shown not to match",
		c.m.Filter, c.Matching+c.Excluded+c.Undecided+c.Deleted, from, c.To.Format(time.RFC3339), c.Excluded)
	if c.Undecided > 0 {
		complete += fmt.Sprintf("; of %d nobody can tell, because what the filter asks for was erased", c.Undecided)
	}
	if c.Deleted > 0 {
		complete += fmt.Sprintf("; %d were deleted under retention", c.Deleted)
	}
	say("%s", complete)
	if c.Waiting > 0 {
		note("when it was made, %d more events of the tenant's were sealed and in no log yet, says its maker: they "+
			"are not in it", c.Waiting)
	}
	if c.Late > 0 {
		note("%d events say that they were recorded more than %s before %s, or before an event that entered the log "+
			"ahead of them: their transactions were open that long, or the time is false", c.Late, lateAfter, from)
	}
	for i, a := range c.Acts {
		if i == maxDescribed {
			note("%d more acts of erasure and retention are in the bundle", len(c.Acts)-i)
			break
		}
		say("of %d events: %s", a.Events, a)
	}
	if restricting := len(c.acts) - len(c.Acts); len(c.Acts) > 0 {
		say("these acts were lawful by the %d rules, holds, requests and refusals that the bundle shows, and by a floor "+
			"of %d days; that there are no others rests on who made it", restricting, c.t.Floor)
	}
	say("signed at %s as part of a log of %d events", c.Signed.Format(time.RFC3339), c.last.Size)
	if len(c.Withheld) > 0 {
		note("withheld from the events that match: %v", c.Withheld)
	}
	for _, w := range c.Witnesses {
		say("witnessed by %s at %s", w.Witness, time.Unix(w.At, 0).UTC().Format(time.RFC3339))
	}
	switch {
	case authority != "" && c.m.To.Index < c.m.Stamp.Size:
		say("existed by %s, says %s: everything in the range stood in the log that it time-stamped",
			c.Stamped.Format(time.RFC3339), authority)
	case authority != "":
		note("time-stamped by %s at %s, before the range ends: what entered the log later has no time but the notary's",
			authority, c.Stamped.Format(time.RFC3339))
	}
	if len(c.Witnesses) == 0 {
		note("witnessed by nobody that you named: that the notary shows everybody the same log rests on its word")
	}
}
