"""A hook that keeps its standard input:  python3 hook_save.py FOLDER. With HOOK_DECISION set it answers."""

import json
import os
import sys

raw = sys.stdin.buffer.read()
try:
    said = json.loads(raw)
    event = said.get("hook_event_name") or said.get("type") or "unknown"
except ValueError:
    event = "unparsed"
os.makedirs(sys.argv[1], exist_ok=True)
for n in range(1, 1000):
    try:
        fd = os.open(os.path.join(sys.argv[1], f"{event}.{n}.json"), os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        continue
    os.write(fd, raw)
    os.close(fd)
    break
decision = os.environ.get("HOOK_DECISION")
if decision and event == "PreToolUse":  # Claude Code and Codex
    answer = {"hookEventName": event, "permissionDecision": decision, "permissionDecisionReason": "A rule says so."}
    if decision == "rewrite":
        answer |= {"permissionDecision": "allow", "updatedInput": said["tool_input"] | {"command": "echo rewritten"}}
    print(json.dumps({"hookSpecificOutput": answer}))
elif decision and event == "BeforeTool":  # Gemini CLI
    answer = {"decision": decision, "reason": "A rule says so."}
    if decision == "rewrite":
        answer = {"hookSpecificOutput": {"hookEventName": event, "tool_input": {"command": "echo rewritten"}}}
    print(json.dumps(answer))
