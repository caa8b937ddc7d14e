package evidence

import (
	"fmt"
	"time"

	"github.com/konstruct/konstruct/ledger"
	"github.com/konstruct/konstruct/plural"
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
	say("unaltered: %s is, in every field opened, what was sealed when it was recorded",
		plural.Word(c.Matching, "the event shown", fmt.Sprintf("each of the %d events shown", c.Matching)))
	all := c.Matching + c.Excluded + c.Undecided + c.Deleted
	complete := fmt.Sprintf("complete for: %s. %s that entered the log between %s and %s %s accounted for; %s shown "+
		"not to match", c.m.Filter, plural.Word(all, "The one event", fmt.Sprintf("All %d events", all)), from,
		c.To.Format(time.RFC3339), plural.Word(all, "is", "are"), plural.Of(c.Excluded, "is", "are"))
	if c.Undecided > 0 {
		complete += fmt.Sprintf("; of %d nobody can tell, because what the filter asks for was erased", c.Undecided)
	}
	if c.Deleted > 0 {
		complete += fmt.Sprintf("; %s deleted under retention", plural.Of(c.Deleted, "was", "were"))
	}
	say("%s", complete)
	if c.Waiting > 0 {
		note("when it was made, %s of the tenant's %s sealed and in no log yet, says its maker: %s not in it",
			plural.Of(c.Waiting, "more event", "more events"), plural.Word(c.Waiting, "was", "were"),
			plural.Word(c.Waiting, "it is", "they are"))
	}
	if c.Late > 0 {
		note("%s recorded more than %s before %s, or before an event that entered the log ahead of %s that long, or "+
			"the time is false", plural.Of(c.Late, "event says that it was", "events say that they were"), lateAfter,
			from, plural.Word(c.Late, "it: its transaction was open", "them: their transactions were open"))
	}
	for i, a := range c.Acts {
		if i == maxDescribed {
			note("%s of erasure and retention %s in the bundle", plural.Of(len(c.Acts)-i, "more act", "more acts"),
				plural.Word(len(c.Acts)-i, "is", "are"))
			break
		}
		say("of %s: %s", plural.Of(a.Events, "event", "events"), a)
	}
	if restricting := len(c.acts) - len(c.Acts); len(c.Acts) > 0 {
		say("these acts were lawful by the %s that the bundle shows, and by a floor of %s; that there are no others "+
			"rests on who made it", plural.Of(restricting, "rule, hold, request or refusal",
			"rules, holds, requests and refusals"), plural.Of(c.t.Floor, "day", "days"))
	}
	say("signed at %s as part of a log of %s", c.Signed.Format(time.RFC3339),
		plural.Of(c.last.Size, "event", "events"))
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
