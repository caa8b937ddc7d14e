package evidence

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestActsAreJudgedByTheLog gives the judge a log's acts, and compares the rulings.
func TestActsAreJudgedByTheLog(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	n := 0
	act := func(action, by, metadata string) *Act {
		n++
		a, err := NewAct(fmt.Sprintf("event-%d", n), now, by, action, "why", []byte(metadata))
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	rule := func(days int) *Act {
		return act(ActionRule, "ann", fmt.Sprintf(`{"action_type":"","keep_days":%d}`, days))
	}
	two := func() *Act { return act(ActionRule, "ann", `{"two_people":true}`) }
	retention := func(leaf int) *Act {
		bits := make([]byte, leaf/8+1)
		bits[leaf/8] = 1 << (leaf % 8)
		return act(ActionRetention, "ann",
			fmt.Sprintf(`{"first_leaf":0,"deleted":1,"leaves":%q}`, base64.StdEncoding.EncodeToString(bits)))
	}
	hold := func(conditions string) *Act {
		return act(ActionHold, "ann", `{"hold":"h","placed":true`+conditions+`}`)
	}
	erasure := func(more string) *Act {
		return act(ActionErasure, "ann", `{"events":["e"],"fields":["input_summary"]`+more+`}`)
	}
	request := func(by, more string) *Act { return act(ActionRequest, by, `{"request":"r"`+more+`}`) }
	// Leaf n was first signed 200+n days ago; no checkpoint covers leaves from 1000 on.
	signed := func(leaf int64) (time.Time, error) {
		if leaf >= 1000 {
			return time.Time{}, errors.New("none")
		}
		return now.AddDate(0, 0, -200-int(leaf)), nil
	}
	for name, c := range map[string]struct {
		acts []*Act
		want string // the ruling on the last act; empty: no ruling at all
	}{
		"old enough":             {[]*Act{rule(200), retention(1)}, ""},
		"exactly":                {[]*Act{rule(200), retention(0)}, ""},
		"too young for the rule": {[]*Act{rule(365), retention(100)}, "events are kept for 365 days"},
		"too young for the floor": {[]*Act{act(ActionRule, "ann", `{"action_type":"","keep":"1 days"}`),
			retention(1)}, ""},
		"without a rule": {[]*Act{retention(100)}, "no rule says that events may go"},
		"a rule taken back": {[]*Act{rule(200),
			act(ActionRule, "ann", `{"action_type":"","keep_days":null}`), retention(100)}, "no rule says"},
		"the least of the rules": {[]*Act{rule(400),
			act(ActionRule, "ann", `{"action_type":"x","keep_days":250}`), retention(60)}, ""},
		"no checkpoint over it": {[]*Act{rule(200), retention(1000)}, "is not proven"},
		"under a hold of all":   {[]*Act{rule(200), hold(``), retention(1)}, "under legal hold h"},
		"under a released hold": {[]*Act{rule(200), hold(``),
			act(ActionHold, "ann", `{"hold":"h","placed":false}`), retention(1)}, ""},
		"under a narrow hold":            {[]*Act{rule(200), hold(`,"action_type":"x"`), retention(1)}, ""},
		"an erasure under a hold of all": {[]*Act{hold(``), erasure(``)}, "under legal hold h"},
		"an erasure":                     {[]*Act{erasure(``)}, ""},
		"an erasure of an act": {
			[]*Act{act(ActionErasure, "ann", fmt.Sprintf(`{"events":["event-%d"],"fields":["input_summary"]}`, n+1))},
			"records an act itself"},
		"a rule under the floor": {[]*Act{rule(183)}, "for 183 days, and the floor is 184"},
		"an interval that hides its length": {
			[]*Act{act(ActionRule, "ann", `{"action_type":"","keep":"-100 years +36184 days"}`)}, "no number of days"},
		"one person where two must": {[]*Act{two(), erasure(``)}, "no request of one stands before it"},
		"two invented, without a request": {[]*Act{two(), erasure(`,"approved_by":"ben"`)},
			"no request of one stands before it"},
		"a request, and no approval": {[]*Act{two(),
			request("ann", `,"act":"erasure","events":["e"],"fields":["input_summary"]`), erasure(`,"request":"r"`)},
			"and one did"},
		"approved by who asked": {[]*Act{two(),
			request("ann", `,"act":"erasure","events":["e"],"fields":["input_summary"]`),
			erasure(`,"request":"r","approved_by":"ann"`)}, "and one did"},
		"two people": {[]*Act{two(),
			request("ann", `,"act":"erasure","events":["e"],"fields":["input_summary"]`),
			erasure(`,"request":"r","approved_by":"ben"`)}, ""},
		"two people, for one user": {[]*Act{two(),
			request("ann", `,"act":"erasure","of_one_user":true,"fields":["input_summary"]`),
			erasure(`,"request":"r","approved_by":"ben"`)}, ""},
		"two people, of other events": {[]*Act{two(),
			request("ann", `,"act":"erasure","events":["f"],"fields":["input_summary"]`),
			erasure(`,"request":"r","approved_by":"ben"`)}, "something else"},
		"two people, of other fields": {[]*Act{two(),
			request("ann", `,"act":"erasure","events":["e"],"fields":["metadata"]`),
			erasure(`,"request":"r","approved_by":"ben"`)}, "something else"},
		"another person's request": {[]*Act{two(),
			request("cid", `,"act":"erasure","events":["e"],"fields":["input_summary"]`),
			erasure(`,"request":"r","approved_by":"ben"`)}, "something else"},
		"a hold released by one": {[]*Act{two(), hold(``),
			act(ActionHold, "ann", `{"hold":"h","placed":false}`)}, "no request of one"},
		"a hold released by two": {[]*Act{two(), hold(``), request("ann", `,"act":"release","hold":"h"`),
			act(ActionHold, "ann", `{"hold":"h","placed":false,"request":"r","approved_by":"ben"}`)}, ""},
		"another hold released": {[]*Act{two(), hold(``), request("ann", `,"act":"release","hold":"g"`),
			act(ActionHold, "ann", `{"hold":"h","placed":false,"request":"r","approved_by":"ben"}`)}, "something else"},
		"a first rule by one":   {[]*Act{two(), rule(365)}, "no request of one"},
		"a longer rule by one":  {[]*Act{rule(365), two(), rule(400)}, ""},
		"a shorter rule by one": {[]*Act{rule(365), two(), rule(364)}, "no request of one"},
		"a shorter rule by two": {[]*Act{rule(365), two(),
			request("ann", `,"act":"retention_rule","action_type":"","keep_days":364`),
			act(ActionRule, "ann", `{"action_type":"","keep_days":364,"request":"r","approved_by":"ben"}`)}, ""},
		"a shorter rule than was asked": {[]*Act{rule(365), two(),
			request("ann", `,"act":"retention_rule","action_type":"","keep_days":364`),
			act(ActionRule, "ann", `{"action_type":"","keep_days":200,"request":"r","approved_by":"ben"}`)},
			"something else"},
		"a rule taken back by one": {[]*Act{rule(365), two(),
			act(ActionRule, "ann", `{"action_type":"","keep_days":null}`)}, "no request of one"},
		"two people taken back by one": {[]*Act{two(), act(ActionRule, "ann", `{"two_people":false}`)},
			"no request of one"},
		"two people taken back by two, and one": {[]*Act{two(), request("ann", `,"act":"one_person"`),
			act(ActionRule, "ann", `{"two_people":false,"request":"r","approved_by":"ben"}`), erasure(``)}, ""},
		"a request used twice": {[]*Act{two(),
			request("ann", `,"act":"erasure","events":["e"],"fields":["input_summary"]`),
			erasure(`,"request":"r","approved_by":"ben"`), erasure(`,"request":"r","approved_by":"ben"`)},
			"was decided before"},
		"a request declined": {[]*Act{two(),
			request("ann", `,"act":"erasure","events":["e"],"fields":["input_summary"]`),
			act(ActionErasureDeclined, "ben", `{"request":"r","act":"erasure","requested_by":"ann","events":1}`),
			erasure(`,"request":"r","approved_by":"ben"`)}, "was decided before"},
		"a rule declined": {[]*Act{rule(365), two(),
			request("ann", `,"act":"retention_rule","action_type":"","keep_days":364`),
			act(ActionDeclined, "ben", `{"request":"r","act":"retention_rule","requested_by":"ann"}`),
			act(ActionRule, "ann", `{"action_type":"","keep_days":364,"request":"r","approved_by":"ben"}`)},
			"was decided before"},
		"a request used while one person was enough": {[]*Act{
			request("ann", `,"act":"erasure","events":["e"],"fields":["input_summary"]`),
			erasure(`,"request":"r","approved_by":"ben"`), two(), erasure(`,"request":"r","approved_by":"ben"`)},
			"was decided before"},
		"one user's events, in parts": {[]*Act{two(),
			request("ann", `,"act":"erasure","of_one_user":true,"fields":["input_summary"]`),
			erasure(`,"request":"r","approved_by":"ben"`), erasure(`,"request":"r","approved_by":"ben"`)}, ""},
		"one user's events, and later more": {[]*Act{two(),
			request("ann", `,"act":"erasure","of_one_user":true,"fields":["input_summary"]`),
			erasure(`,"request":"r","approved_by":"ben"`), hold(`,"action_type":"x"`),
			erasure(`,"request":"r","approved_by":"ben"`)}, "was decided before"},
	} {
		if name == "too young for the floor" { // the first ruling is on the rule itself
			found := (&ComplianceJudge{Floor: 300, Signed: signed}).Rule(c.acts)
			if len(found) != 2 || !strings.Contains(found[1].Verdict, "kept for 300 days") {
				t.Errorf("%s: %v", name, found)
			}
			continue
		}
		found := (&ComplianceJudge{Floor: DefaultFloor, Signed: signed}).Rule(c.acts)
		last := c.acts[len(c.acts)-1].Event
		if c.want == "" && len(found) > 0 || c.want != "" &&
			(len(found) != 1 || found[0].Event != last || !strings.Contains(found[0].Verdict, c.want)) {
			t.Errorf("%s: %v, want %q of %s", name, found, c.want, last)
		}
	}
}
