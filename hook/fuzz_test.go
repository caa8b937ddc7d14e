package hook_test

import (
	"testing"

	"github.com/konstruct/konstruct/client"
	"github.com/konstruct/konstruct/hook"
)

// FuzzHook handles any input without a rule: it blocks nothing, answers nothing, says what it can't read, and loses
// nothing.
func FuzzHook(f *testing.F) {
	for _, seed := range []string{hookInput("PreToolUse", 1, ""), hookInput("PostToolUse", 1, `,"tool_response":{}`),
		`{"hook_event_name":"PostToolBatch","tool_calls":[{"tool_use_id":"t","tool_name":"x"}]}`,
		`{"type":"agent-turn-complete","thread-id":"a","input-messages":["b"]}`, `{"hook_event_name":"BeforeTool"}`,
		`{"hook_event_name":"SubagentStop","agent_id":7}`, `[`, "\ufeff{}"} {
		f.Add([]byte(seed))
	}
	dir := f.TempDir()
	k, err := client.Open(client.Config{SpoolDir: dir})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := hook.New(k).Handle(t.Context(), raw)
		if r.Code == 2 || len(r.Stdout) > 0 || r.Code == 1 && r.Note == "" {
			t.Errorf("%q: %+v", raw, r)
		}
		if st, err := k.Status(); err != nil || st.Lost > 0 {
			t.Errorf("%q: %+v, %v", raw, st, err)
		}
	})
}
