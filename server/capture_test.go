package server_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/capture"
	"github.com/konstruct/konstruct/internal/testkit"
)

// TestTheDoctorSaysWhatLanded tries each way to a service that has them all, one that has only OTLP, and with keys that
// may do less.
func TestTheDoctorSaysWhatLanded(t *testing.T) {
	up := newUpstreamMCP(t, nil)
	w := serve(t, withGateway(t, testkit.LLM(t)), withMCP(t, map[string]string{"shop": up.URL}))
	all := w.key(acme, access.EventsWrite, access.EventsRead, access.GatewayUse)
	checks := capture.Try(t.Context(), capture.Config{URL: w.url, Key: all, Model: "gpt-fake-5", MCP: []string{"shop"}})
	want := map[string]string{"key": "", "span": audit.ActionToolCall, "log": audit.ActionLLMCall,
		"openai": audit.ActionLLMCall, "mcp shop": audit.ActionToolCall}
	for _, c := range checks {
		action, asked := want[c.Way]
		if !asked {
			continue
		}
		delete(want, c.Way)
		if !c.OK || action != "" && !slices.Contains(c.Events, action) {
			t.Errorf("%+v", c)
		}
	}
	if len(want) != 0 {
		t.Errorf("not tried: %v of %+v", want, checks)
	}

	bare := serve(t)
	for _, c := range capture.Try(t.Context(), capture.Config{URL: bare.url, Key: bare.key(acme, access.EventsWrite),
		MCP: []string{"shop"}}) {
		switch c.Way {
		case "openai", "anthropic":
			if !c.Unset {
				t.Errorf("%+v", c)
			}
		case "mcp shop":
			if c.OK {
				t.Errorf("%+v", c)
			}
		default:
			if !c.OK {
				t.Errorf("%+v", c)
			}
		}
	}
	for key, says := range map[string]string{bare.key(acme, access.EventsRead): "--permission events:write",
		"kst_nobody": "401"} {
		if c := capture.Try(t.Context(), capture.Config{URL: bare.url, Key: key}); len(c) != 1 || c[0].OK ||
			!strings.Contains(c[0].Detail, says) {
			t.Errorf("%+v", c)
		}
	}
}
