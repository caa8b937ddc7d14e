package evidence

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// DefaultFloor is the default least number of days for which events are kept, whatever a rule says: six months, as the
// EU's AI Act requires.
const DefaultFloor = 184

// ComplianceJudge checks a tenant's acts against the log that has them: an act is not lawful just because it is in the
// log. The rules, holds, requests and refusals in force are earlier events of the same log, and signed checkpoints
// prove the age of a leaf.
type ComplianceJudge struct {
	// Floor is the least number of days that a rule may keep events; 0 means no check. The verifier sets it, not the
	// database.
	Floor int
	// Signed returns when the first checkpoint that covers a leaf was signed; an error if none is known.
	Signed func(leaf int64) (time.Time, error)
}

// Ruling is an act that was not lawful, with the reason.
type Ruling struct {
	Event   string
	Verdict string
}

// complianceState is the state while a tenant's acts are checked in the log's order: what is in force so far.
type complianceState struct {
	*ComplianceJudge
	rules     map[string]int
	holds     map[string]*Act
	requests  map[string]*Act
	decided   map[string]*Act // by request: the act that carried it out, or its refusal
	before    *Act            // the act before this one in the log
	acts      map[string]bool
	twoPeople bool
	found     []Ruling
}

// Rule checks all of a tenant's acts, given in the log's order, and returns those that were not lawful.
func (j *ComplianceJudge) Rule(acts []*Act) []Ruling {
	g := complianceState{ComplianceJudge: j, rules: map[string]int{}, holds: map[string]*Act{},
		requests: map[string]*Act{}, decided: map[string]*Act{}, acts: map[string]bool{}}
	for _, a := range acts {
		g.acts[a.Event] = true
	}
	for _, a := range acts {
		switch a.Action {
		case ActionRequest:
			g.requests[a.kind.Request] = a
		case ActionHold:
			g.hold(a)
		case ActionRule:
			g.rule(a)
		case ActionErasure:
			g.erasure(a)
		case ActionRetention:
			g.retention(a)
		}
		if r := a.kind.Request; r != "" && a.Action != ActionRequest && g.decided[r] == nil {
			g.decided[r] = a
		}
		g.before = a
	}
	return g.found
}

func (g *complianceState) refuse(a *Act, format string, args ...any) {
	g.found = append(g.found, Ruling{a.Event, "records an act that was not lawful: " + fmt.Sprintf(format, args...)})
}

// checkApproval checks that an act that needs two people's approval matches an earlier request in the log, which
// nothing between them has carried out or declined.
func (g *complianceState) checkApproval(a *Act, what string, same func(request *actMetadata) bool) {
	if !g.twoPeople {
		return
	}
	r := g.requests[a.kind.Request]
	switch {
	case a.kind.Request == "" || r == nil:
		g.refuse(a, "two people must agree, and no request of one stands before it in the log")
	case a.ApprovedBy == "" || a.ApprovedBy == a.By:
		g.refuse(a, "two people must agree, and one did")
	case r.By != a.By || r.kind.Act != what || !same(&r.kind):
		g.refuse(a, "two people must agree, and what was asked for is something else (event %s)", r.Event)
	case g.decided[a.kind.Request] != nil && !g.continues(a, r):
		g.refuse(a, "two people must agree, and what was asked for was decided before (event %s)",
			g.decided[a.kind.Request].Event)
	}
}

// continues reports whether an erasure goes on with the one right before it: a request to erase one user's events is
// carried out in parts of at most 1,000 events, in one transaction.
func (g *complianceState) continues(a, request *Act) bool {
	b := g.before
	return request.kind.OfOneUser && a.Action == ActionErasure && b.Action == ActionErasure &&
		b.kind.Request == a.kind.Request && b.ApprovedBy == a.ApprovedBy
}

func (g *complianceState) hold(a *Act) {
	if a.kind.Placed {
		g.holds[a.kind.Hold] = a
		return
	}
	g.checkApproval(a, "release", func(r *actMetadata) bool { return r.Hold == a.kind.Hold })
	delete(g.holds, a.kind.Hold)
}

// days matches an interval of whole days, the form of a rule's days before keep_days.
var days = regexp.MustCompile(`^([0-9]{1,6}) days?$`)

func (g *complianceState) rule(a *Act) {
	w := &a.kind
	if w.TwoPeople != nil {
		if !*w.TwoPeople {
			g.checkApproval(a, "one_person", func(*actMetadata) bool { return true })
		}
		g.twoPeople = *w.TwoPeople
		return
	}
	action := ""
	if w.ActionType != nil {
		action = *w.ActionType
	}
	keep := w.KeepDays
	if w.Keep != nil {
		n, err := 0, error(nil)
		m := days.FindStringSubmatch(*w.Keep)
		if m != nil {
			n, err = strconv.Atoi(m[1])
		}
		if m == nil || err != nil {
			g.refuse(a, "it keeps events for %.40q, which is no number of days", *w.Keep)
			g.rules[action] = g.Floor
			return
		}
		keep = &n
	}
	now, ruled := g.rules[action]
	if !ruled {
		now, ruled = g.rules[""], g.has("")
	}
	if keep == nil || !ruled || *keep < now {
		g.checkApproval(a, "retention_rule", func(r *actMetadata) bool {
			return r.ActionType != nil && *r.ActionType == action && (r.KeepDays == nil) == (keep == nil) &&
				(keep == nil || *r.KeepDays == *keep)
		})
	}
	if keep == nil {
		delete(g.rules, action)
		return
	}
	if *keep < g.Floor {
		g.refuse(a, "it keeps events for %d days, and the floor is %d", *keep, g.Floor)
	}
	g.rules[action] = *keep
}

func (g *complianceState) has(action string) bool { _, there := g.rules[action]; return there }

// holdOnAll returns a hold in force that protects all events, or nil. Narrower holds are not checked: once an event is
// gone, nothing shows whether such a hold matched it.
func (g *complianceState) holdOnAll() *Act {
	var all []*Act
	for _, h := range g.holds {
		if w := &h.kind; w.Since == nil && w.Until == nil && w.AgentID == nil && w.ActionType == nil && !w.OfOneUser {
			all = append(all, h)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return slices.MinFunc(all, func(a, b *Act) int { return cmp.Compare(a.Event, b.Event) })
}

func (g *complianceState) erasure(a *Act) {
	if h := g.holdOnAll(); h != nil {
		g.refuse(a, "it erases what is under legal hold %s (event %s)", h.kind.Hold, h.Event)
	}
	for _, e := range a.kind.Events {
		if g.acts[e] {
			g.refuse(a, "it erases fields of event %s, which records an act itself", e)
		}
	}
	g.checkApproval(a, "erasure", func(r *actMetadata) bool {
		return sameSet(r.Fields, a.kind.Fields) && (r.OfOneUser || sameSet(r.Events, a.kind.Events))
	})
}

func sameSet(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}

func (g *complianceState) retention(a *Act) {
	if h := g.holdOnAll(); h != nil {
		g.refuse(a, "it deletes what is under legal hold %s (event %s)", h.kind.Hold, h.Event)
	}
	if len(g.rules) == 0 {
		g.refuse(a, "no rule says that events may go")
		return
	}
	least := -1
	for _, n := range g.rules {
		if least < 0 || n < least {
			least = n
		}
	}
	kept := max(least, g.Floor)
	last := a.LastLeaf()
	if last < 0 {
		return
	}
	signed, err := g.Signed(last)
	if err != nil {
		g.refuse(a, "how old leaf %d was, the newest that it deleted, is not proven: %v", last, err)
		return
	}
	if old := a.At.Sub(signed); old < time.Duration(kept)*24*time.Hour {
		g.refuse(a,
			"leaf %d, the newest that it deleted, was first signed %s before, at %s, and events are kept for %d days",
			last, old.Round(time.Second), signed.UTC().Format(time.RFC3339), kept)
	}
}
