package mcpproxy

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/toolrule"
)

// nullTrail takes every event, and nobody answers.
type nullTrail struct{ events int }

func (n *nullTrail) Record(_ context.Context, e audit.Event) error {
	n.events++
	_, err := json.Marshal(e)
	return err
}
func (n *nullTrail) Escalate(context.Context, audit.Event) error { return ErrNobody }
func (n *nullTrail) Await(context.Context, uuid.UUID) (*Resolution, error) {
	return nil, context.Canceled
}
func (n *nullTrail) Cancel(context.Context, uuid.UUID, string) error { return nil }

// FuzzFrames reads any bytes as frames of a client and of a server. Nothing panics; what passes is a frame that every
// reader reads alike; each answer is a frame; a denied tool never passes; and each call is recorded once.
func FuzzFrames(f *testing.F) {
	for _, frame := range []string{"", "x", "{}", "[]", `[{}]`, `{"id":1}`, `{"jsonrpc":"2.0","id":1,"method":"ping"}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"denied","arguments":{"a":[1,2]}}}`,
		`{"jsonrpc":"2.0","id":"1","method":"tools/call","params":{"name":"t","_meta":{"progressToken":1}}}`,
		`{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":true,"resultType":"input_required"}}`,
		`[{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"denied"}},{"id":3,"method":"ping"}]`,
		`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`,
		`{"jsonrpc":"2.0","id":1e2,"error":{"code":-1,"message":"m"}}`, `{"\u006dethod":"tools\/call","id":-0}`,
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"clientInfo":{"name":"\ud800","version":"\u0000"}}}`,
	} {
		f.Add([]byte(frame), []byte(frame))
	}
	f.Fuzz(func(t *testing.T, fromClient, fromServer []byte) {
		if bytes.ContainsAny(fromClient, "\n") {
			return
		}
		trail := &nullTrail{}
		s := NewSession(Config{Server: "s", Trail: trail, Decide: func(c toolrule.Call) toolrule.Decision {
			if c.Tool == "denied" {
				return toolrule.Decision{Action: toolrule.Deny, Reason: "no"}
			}
			return toolrule.Decision{Action: toolrule.Allow, Rule: -1}
		}}, "")
		before := bytes.Clone(fromClient)
		v := s.FromClient(fromClient)
		if v.Decide != nil {
			v = v.Decide(context.Background(), nil)
		}
		if !bytes.Equal(before, fromClient) {
			t.Fatalf("the frame was changed: %q to %q", before, fromClient)
		}
		if v.Pass && v.Answer != nil || v.Answer != nil && !json.Valid(v.Answer) {
			t.Fatalf("%q: %+v", fromClient, v)
		}
		if v.Pass {
			checkPassed(t, fromClient)
		}
		if record := s.FromServer(fromServer); record != nil {
			if instead := record(context.Background()); instead != nil {
				t.Fatalf("%q: %s", fromServer, instead)
			}
		}
		long := newLongFrame()
		_, _ = long.Write(fromServer)
		_ = long.String()
		relay := &eventRelay{session: s, send: func([]byte) error { return nil }}
		if relay.write(context.Background(), fromServer) != nil || relay.close(context.Background()) != nil {
			t.Fatal("a stream can't be passed")
		}
		calls := trail.events + s.Pending()
		s.End(errServerGone)
		if trail.events > calls || s.Pending() != 0 {
			t.Fatalf("%d events of %d calls, %d pending", trail.events, calls, s.Pending())
		}
	})
}

// checkPassed decodes a frame that has passed as a server would, in any case of its names.
func checkPassed(t *testing.T, frame []byte) {
	var m struct {
		Method string
		Params struct{ Name string }
	}
	var batch []json.RawMessage
	if json.Unmarshal(frame, &batch) != nil {
		batch = []json.RawMessage{frame}
	}
	for _, one := range batch {
		m.Method, m.Params.Name = "", ""
		_ = json.Unmarshal(one, &m) // what has other types is no call
		if m.Method == "tools/call" && strings.EqualFold(m.Params.Name, "denied") && m.Params.Name == "denied" {
			t.Fatalf("a denied tool passes: %q", frame)
		}
	}
}

// FuzzEvents passes a stream of server-sent events in two parts, byte for byte.
func FuzzEvents(f *testing.F) {
	f.Add([]byte("data: {}\n\n"), 3)
	f.Add([]byte(":\r\n\r\nid: 1\rdata: {\"id\":1,\"result\":{}}\r\r"), 7)
	f.Add([]byte("\ufeffdata\ndata:x\n\n"), 1)
	f.Fuzz(func(t *testing.T, stream []byte, at int) {
		var out []byte
		relay := &eventRelay{session: NewSession(Config{Trail: &nullTrail{}}, ""), send: func(p []byte) error {
			out = append(out, p...)
			return nil
		}}
		at = max(0, min(at, len(stream)))
		for _, part := range [][]byte{stream[:at], stream[at:]} {
			if err := relay.write(context.Background(), bytes.Clone(part)); err != nil {
				t.Fatal(err)
			}
		}
		if err := relay.close(context.Background()); err != nil || !bytes.Equal(out, stream) {
			t.Fatalf("%q came as %q, %v", stream, out, err)
		}
	})
}
