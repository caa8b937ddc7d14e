package hook

import (
	"encoding/json"

	"github.com/konstruct/konstruct/client"
)

// decision is the answer of Claude Code's and Codex CLI's PreToolUse.
type decision struct {
	Output struct {
		Event    string `json:"hookEventName"`
		Decision string `json:"permissionDecision"`
		Reason   string `json:"permissionDecisionReason"`
	} `json:"hookSpecificOutput"`
}

// answer returns the reply that carries a verdict, in the program's documented form.
//
// Nothing on standard output leaves the decision to the program's own permissions, so a call that no rule is about is
// answered with nothing. What a person allowed here is not asked again by Claude Code. Codex CLI knows only deny, and
// ignores an answer that it doesn't know, which would run the tool; Gemini CLI documents allow and deny.
func (h *Handler) answer(in input, v client.Verdict) Reply {
	approved := v.Allowed && v.Metadata[client.MetadataApproval] == "allow"
	say := ""
	switch {
	case v.Prompt:
		say = "ask"
	case approved:
		say = "allow"
	case !v.Allowed:
		say = "deny"
	}
	if say == "" || say != "deny" && h.Program != ClaudeCode {
		return Reply{}
	}
	reason := v.Reason
	if reason == "" {
		reason = "a rule of the operator's"
	}
	var out any
	if h.Program == GeminiCLI {
		out = map[string]string{"decision": say, "reason": reason}
	} else {
		var d decision
		d.Output.Event, d.Output.Decision, d.Output.Reason = in.event, say, reason
		out = d
	}
	raw, err := json.Marshal(out)
	if err != nil {
		return Reply{Note: note("%s: %v", reason, err), Code: 2} // blocks as well, in all three programs
	}
	return Reply{Stdout: append(raw, '\n')}
}
