package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/server"
)

// operations are all that the description names, with their paths filled in.
func operations(t *testing.T, w *world) (all []struct{ method, path, action string }) {
	t.Helper()
	raw, err := w.s.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	var api struct {
		Paths map[string]map[string]struct {
			Action string `json:"x-konstruct-permission"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(raw, &api); err != nil {
		t.Fatal(err)
	}
	for path, item := range api.Paths {
		for method, op := range item {
			path := strings.NewReplacer("{id}", uuid.NewString(), "{run}", "r", "{level}", "0", "{index...}", "000").
				Replace(path)
			all = append(all, struct{ method, path, action string }{strings.ToUpper(method), path, op.Action})
		}
	}
	if len(all) < 60 {
		t.Fatalf("the description names %d operations", len(all))
	}
	return all
}

// TestEveryOperationAsksWhoAsks and refuses whoever has no key, a wrong one, or one that may do anything but this.
func TestEveryOperationAsksWhoAsks(t *testing.T) {
	w := serve(t)
	forged := w.key(acme)
	forged = forged[:20] + flip(forged[20]) + forged[21:]
	ghost := func() string { // of the right shape, signed by another service
		other := serve(t, func(*server.Config) {})
		return other.key(acme)
	}()
	only := map[string]string{}
	for _, action := range access.Admin.Permissions() {
		rest := slices.DeleteFunc(slices.Clone(access.Admin.Permissions()), func(a access.Permission) bool {
			return a == action
		})
		only[string(action)] = w.key(acme, rest...)
	}
	only[string(access.TenantsImpersonate)] = w.key(acme)
	for _, op := range operations(t, w) {
		for name, key := range map[string]string{"no key": "", "no such word": "hello", "a forged key": forged,
			"another service's": ghost} {
			if r := w.ask(op.method, op.path, key, ""); r.StatusCode != 401 || r.Header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s %s with %s: %d", op.method, op.path, name, r.StatusCode)
			}
		}
		if op.action == "" {
			continue
		}
		if r := w.ask(op.method, op.path, only[op.action], ""); r.StatusCode != 403 {
			t.Errorf("%s %s without %s: %d %s", op.method, op.path, op.action, r.StatusCode, r.body)
		}
	}
}

func flip(c byte) string {
	if c == 'A' {
		return "B"
	}
	return "A"
}

func TestKeysAreRotatedAndRevoked(t *testing.T) {
	w := serve(t)
	admin := w.key(acme)
	r := w.want(201, "POST", "/v1/keys", admin, `{"name":"ci","permissions":["events:write"]}`)
	key, id := r.text("secret"), r.text("key", "id")
	w.want(201, "POST", "/v1/events", key, `{"action_type":"x"}`)
	if me := w.want(200, "GET", "/v1/me", key, ""); me.text("tenant_id") != acme.String() || me.text("name") != "ci" {
		t.Errorf("me: %s", me.body)
	}
	next := w.want(201, "POST", "/v1/keys/"+id+"/rotate", admin, `{"overlap_seconds":60}`).text("secret")
	for _, k := range []string{key, next} {
		w.want(201, "POST", "/v1/events", k, `{"action_type":"x"}`)
	}
	w.want(204, "DELETE", "/v1/keys/"+id, admin, "")
	w.want(401, "POST", "/v1/events", key, `{"action_type":"x"}`)
	w.want(201, "POST", "/v1/events", next, `{"action_type":"x"}`)
	// Without an overlap the old one ends with the new one's beginning.
	last := w.want(200, "GET", "/v1/keys", admin, "").items()
	newest, _ := last[len(last)-1].(map[string]any)
	w.want(201, "POST", fmt.Sprintf("/v1/keys/%s/rotate", newest["id"]), admin, `{"overlap_seconds":0}`)
	w.want(401, "POST", "/v1/events", next, `{"action_type":"x"}`)
	// Nobody gives away more than they have; nothing of another tenant is touched.
	small := w.key(acme, access.AccessWrite, access.EventsRead)
	w.want(422, "POST", "/v1/keys", small, `{"name":"x","permissions":["compliance:write"]}`)
	w.want(422, "POST", "/v1/users", small, `{"issuer":"https://id.example","subject":"s","role":"admin"}`)
	w.want(404, "DELETE", "/v1/keys/"+id, w.key(globex), "")
	w.want(404, "POST", "/v1/keys/"+id+"/rotate", w.key(globex), `{"overlap_seconds":0}`)
	short := w.keyOf(acme, access.KeyRequest{ExpiresAt: time.Now().Add(700 * time.Millisecond)})
	w.want(200, "GET", "/v1/me", short, "")
	time.Sleep(800 * time.Millisecond)
	w.want(401, "GET", "/v1/me", short, "")
	for _, action := range []string{audit.ActionKeyCreated, audit.ActionKeyRotated, audit.ActionKeyRevoked} {
		if w.count(acme, audit.Filter{Action: action}) == 0 {
			t.Errorf("no %s on the trail", action)
		}
	}
	// The keys themselves are nowhere: not in the trail, not in the list, not in the log.
	list := w.want(200, "GET", "/v1/keys?limit=1000", admin, "").body + w.want(200, "GET", "/v1/events?limit=1000",
		admin, "").body + w.log.String()
	for _, k := range []string{key, next, admin} {
		if strings.Contains(list, k) || strings.Contains(list, k[36:60]) {
			t.Error("a key is shown")
		}
	}
}

// TestARevokedKeyEndsInEveryProcess although each remembers keys for a minute.
func TestARevokedKeyEndsInEveryProcess(t *testing.T) {
	one := serve(t)
	two := serveOn(t, one.d)
	admin := one.key(acme)
	r := one.want(201, "POST", "/v1/keys", admin, `{"name":"ci","permissions":["events:read"]}`)
	key := r.text("secret")
	for range 3 {
		one.want(200, "GET", "/v1/me", key, "")
		two.want(200, "GET", "/v1/me", key, "")
	}
	one.want(204, "DELETE", "/v1/keys/"+r.text("key", "id"), admin, "")
	begin := time.Now()
	two.soon("the key ends in the other process", func() bool {
		return two.ask("GET", "/v1/me", key, "").StatusCode == 401
	})
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("it took %s", took)
	}
}

// TestAKeyOfOneAgent acts as it and sees its events alone.
func TestAKeyOfOneAgent(t *testing.T) {
	w := serve(t)
	all, mine := w.key(acme),
		w.keyOf(acme,
			access.KeyRequest{Agent: bot,
				Permissions: []access.Permission{access.EventsRead, access.EventsWrite, access.KBRead,
					access.EvidenceRead}})
	other := uuid.NewString()
	theirs := w.want(201, "POST", "/v1/events", all, `{"action_type":"x","agent_id":"`+other+`"}`).
		Header.Get("Location")
	own := w.want(201, "POST", "/v1/events", mine, `{"action_type":"x"}`).Header.Get("Location")
	if got := w.want(200, "GET", own, mine, ""); got.text("agent_id") != bot.String() {
		t.Errorf("its event: %s", got.body)
	}
	w.want(404, "GET", theirs, mine, "")
	w.want(404, "GET", theirs+"/receipt", mine, "")
	w.want(404, "GET", "/v1/events/stream", mine, "", "Last-Event-ID", strings.TrimPrefix(theirs, "/v1/events/"))
	w.want(404, "GET", theirs+"/proof", mine, "")
	w.want(403, "POST", "/v1/events", mine, `{"action_type":"x","agent_id":"`+other+`"}`)
	w.want(403, "POST", "/v1/events/batch", mine, `{"events":[{"action_type":"x"},{"action_type":"x","agent_id":"`+
		other+`"}]}`)
	w.want(403, "GET", "/v1/events?agent_id="+other, mine, "")
	w.want(403, "GET", "/v1/runs/r", mine, "")
	w.want(422, "GET", "/v1/events?text=x", mine, "")
	w.want(403, "POST", "/v1/evidence", mine, `{}`)
	for _, path := range []string{"/v1/events?limit=100", "/v1/agents"} {
		for _, e := range w.want(200, "GET", path, mine, "").items() {
			if m, _ := e.(map[string]any); m["agent_id"] != bot.String() {
				t.Errorf("%s shows %v", path, e)
			}
		}
	}
}

// TestOperatorsSwitchByAnEvent on both trails, and cannot otherwise.
func TestOperatorsSwitchByAnEvent(t *testing.T) {
	w := serve(t)
	operator := w.keyOf(audit.Operator, access.KeyRequest{Permissions: access.Permissions})
	ask := `{"tenant_id":"` + acme.String() + `","reason":"ticket 9","permissions":["events:read"],"seconds":60}`
	w.want(403, "POST", "/v1/impersonate", w.key(globex), ask)
	before := w.count(acme, audit.Filter{})
	switched := w.want(201, "POST", "/v1/impersonate", operator, ask).text("secret")
	if list := w.want(200, "GET", "/v1/events", switched, ""); len(list.items()) != before+1 {
		t.Errorf("the switched sees %s", list.body)
	}
	w.want(403, "POST", "/v1/events", switched, `{"action_type":"x"}`)
	if n, m := w.count(acme, audit.Filter{Action: audit.ActionImpersonation}), w.count(audit.Operator,
		audit.Filter{Action: audit.ActionImpersonation}); n != 1 || m != 1 {
		t.Errorf("%d and %d events say so", n, m)
	}
	for _, bad := range []string{
		`{"tenant_id":"` + audit.Operator.String() + `","reason":"r","permissions":["events:read"],"seconds":60}`,
		`{"tenant_id":"` + acme.String() + `","reason":" ","permissions":["events:read"],"seconds":60}`,
		`{"tenant_id":"` + acme.String() + `","reason":"r","permissions":["tenants:impersonate"],"seconds":60}`,
		`{"tenant_id":"` + acme.String() + `","reason":"r","permissions":["events:read"],"seconds":86400}`,
	} {
		w.want(422, "POST", "/v1/impersonate", operator, bad)
	}
	w.want(422, "POST", "/v1/impersonate", operator, `{"tenant_id":"`+acme.String()+
		`","reason":"a\nb","permissions":["events:read"],"seconds":60}`)
	for _, name := range []string{" ", "a\\nb", strings.Repeat("😀", 60)} {
		w.want(422, "POST", "/v1/tenants", operator, `{"name":"`+name+`"}`)
	}
	for _, action := range []string{audit.ActionImpersonation, audit.ActionTenantCreated} {
		if n := w.count(audit.Operator, audit.Filter{Action: action}); n > 1 || n == 1 &&
			action == audit.ActionTenantCreated {
			t.Errorf("%d events of %s, of which nothing came", n, action)
		}
	}
	// A tenant's key that was given tenants:impersonate by hand has no use of it.
	w.want(403, "POST", "/v1/impersonate", w.keyOf(acme, access.KeyRequest{Permissions: access.Permissions}), ask)
	w.want(403, "POST", "/v1/tenants", w.keyOf(acme, access.KeyRequest{Permissions: access.Permissions}),
		`{"name":"x"}`)
	begun := w.want(201, "POST", "/v1/tenants", operator, `{"name":"initech"}`)
	if me := w.want(200, "GET", "/v1/me", begun.text("secret"), ""); me.text("tenant_id") != begun.text("tenant_id") {
		t.Errorf("the first key: %s", me.body)
	}
	w.want(200, "PUT", "/v1/tenants/"+acme.String()+"/limits", operator,
		`{"events_per_second":1,"searches_per_second":0,"requests_per_second":0,"bytes_per_second":0,"documents":0,`+
			`"at_once":0}`)
	if l := w.want(200, "GET", "/v1/settings/limits", w.key(acme), ""); l.field("events_per_second") != 1.0 {
		t.Errorf("limits: %s", l.body)
	}
}

// TestTenantsAreHeldToTheirLimits, each to its own.
func TestTenantsAreHeldToTheirLimits(t *testing.T) {
	w := serve(t, func(c *server.Config) {
		c.DefaultLimits = access.Limits{EventsPerSecond: 10, SearchesPerSecond: 2, Concurrency: 64}
	})
	noisy, quiet := w.key(acme), w.key(globex)
	limited := 0
	for range 30 {
		r := w.ask("POST", "/v1/events", noisy, `{"action_type":"x"}`)
		switch r.StatusCode {
		case 201:
		case 429:
			if limited++; r.Header.Get("Retry-After") == "" {
				t.Errorf("429 without Retry-After: %s", r.body)
			}
		default:
			t.Fatalf("%d %s", r.StatusCode, r.body)
		}
	}
	if limited == 0 {
		t.Error("thirty events at once are let through at ten a second")
	}
	w.want(201, "POST", "/v1/events", quiet, `{"action_type":"x"}`)
	// A batch that is larger than a second's limit goes through when nothing was used, and the next waits.
	many := `{"events":[` + strings.Repeat(`{"action_type":"x"},`, 99) + `{"action_type":"x"}]}`
	third := w.key(uuid.MustParse("33333333-3333-4333-8333-333333333333"))
	w.want(201, "POST", "/v1/events/batch", third, many)
	w.want(429, "POST", "/v1/events/batch", third, many)
	w.soon("the limit is whole again", func() bool {
		return w.ask("POST", "/v1/events", noisy, `{"action_type":"x"}`).StatusCode == 201
	})
}

// TestUnknownAndWrongKeysLookAlike: the same words, and about the same time.
func TestUnknownAndWrongKeysLookAlike(t *testing.T) {
	w := serve(t)
	wrongSecret, unknown := w.key(acme), w.key(acme)
	_, wrongID, _ := access.ParseKey(wrongSecret)
	_, unknownID, _ := access.ParseKey(unknown)
	testkit.Super(t, w.d, `UPDATE access_keys SET hash = sha256('another') WHERE id = '`+wrongID.String()+`'`)
	testkit.Super(t, w.d, `DELETE FROM access_keys WHERE id = '`+unknownID.String()+`'`)
	ask := func(key string) (string, time.Duration) {
		begin := time.Now()
		r := w.ask("GET", "/v1/me", key, "")
		took := time.Since(begin)
		if r.StatusCode != http.StatusUnauthorized {
			t.Fatalf("%d %s", r.StatusCode, r.body)
		}
		return r.text("detail"), took
	}
	var times [2][]time.Duration
	for range 200 {
		a, ta := ask(wrongSecret)
		b, tb := ask(unknown)
		if a != b {
			t.Fatalf("%q and %q", a, b)
		}
		times[0], times[1] = append(times[0], ta), append(times[1], tb)
	}
	median := func(d []time.Duration) time.Duration { slices.Sort(d); return d[len(d)/2] }
	a, b := median(times[0]), median(times[1])
	if ratio := float64(a) / float64(b); ratio > 1.5 || ratio < 1/1.5 {
		t.Errorf("a wrong secret takes %s, an unknown key %s", a, b)
	}
}
