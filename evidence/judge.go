package evidence

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// DefaultFloor is for how many days events are kept at least, whatever a rule says: six months, as the EU's AI Act
// asks.
const DefaultFloor = 184

// ComplianceJudge holds acts against the log that they stand in: an act proves nothing by being there. Rules, holds and
// requests in force are events of the log before it, and signed checkpoints say how old a leaf is.
type ComplianceJudge struct {
	// Floor is below how many days no rule may go; 0 is none. It is the verifier's, and not the database's.
	Floor int
	// Signed is when the first checkpoint was signed that covers a leaf; an error where none is known.
	Signed func(leaf int64) (time.Time, error)
}

// Ruling is an act that was not lawful, and why.
type Ruling struct {
	Event   string
	Verdict string
}

// InForce is what the log said of a tenant's acts when they were all judged.
type judgement struct {
	*ComplianceJudge
	rules    map[string]int
	holds    map[string]*Act
	requests map[string]*Act
	acts     map[string]bool
	two      bool
	found    []Ruling
}

// Rule judges a tenant's acts, given in the log's order.
func (j *ComplianceJudge) Rule(acts []*Act) []Ruling {
	g := judgement{ComplianceJudge: j, rules: map[string]int{}, holds: map[string]*Act{}, requests: map[string]*Act{},
		acts: map[string]bool{}}
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
	}
	return g.found
}

func (g *judgement) refuse(a *Act, format string, args ...any) {
	g.found = append(g.found, Ruling{a.Event, "records an act that was not lawful: " + fmt.Sprintf(format, args...)})
}

// agreed holds an act for which two people are asked against the request that stands before it in the log.
func (g *judgement) agreed(a *Act, what string, same func(request *actMetadata) bool) {
	if !g.two {
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
	}
}

func (g *judgement) hold(a *Act) {
	if a.kind.Placed {
		g.holds[a.kind.Hold] = a
		return
	}
	g.agreed(a, "release", func(r *actMetadata) bool { return r.Hold == a.kind.Hold })
	delete(g.holds, a.kind.Hold)
}

// days is what an interval of whole days says, as rules were written before they were numbers.
var days = regexp.MustCompile(`^([0-9]{1,6}) days?$`)

func (g *judgement) rule(a *Act) {
	w := &a.kind
	if w.TwoPeople != nil {
		if !*w.TwoPeople {
			g.agreed(a, "one_person", func(*actMetadata) bool { return true })
		}
		g.two = *w.TwoPeople
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
		g.agreed(a, "retention_rule", func(r *actMetadata) bool {
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

func (g *judgement) has(action string) bool { _, there := g.rules[action]; return there }

// held is the hold in force that protects every event, if there is one. Whether a narrower one protected an event can't
// be told once it is gone.
func (g *judgement) held() *Act {
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

func (g *judgement) erasure(a *Act) {
	if h := g.held(); h != nil {
		g.refuse(a, "it erases what is under legal hold %s (event %s)", h.kind.Hold, h.Event)
	}
	for _, e := range a.kind.Events {
		if g.acts[e] {
			g.refuse(a, "it erases fields of event %s, which records an act itself", e)
		}
	}
	g.agreed(a, "erasure", func(r *actMetadata) bool {
		return sameSet(r.Fields, a.kind.Fields) && (r.OfOneUser || sameSet(r.Events, a.kind.Events))
	})
}

func sameSet(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}

func (g *judgement) retention(a *Act) {
	if h := g.held(); h != nil {
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
