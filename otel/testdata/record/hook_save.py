"""A hook that keeps its standard input:  python3 hook_save.py FOLDER. With HOOK_DENY set it denies every tool."""

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
if os.environ.get("HOOK_DENY") and event == "PreToolUse":
    print(json.dumps({"hookSpecificOutput": {
        "hookEventName": event, "permissionDecision": "deny", "permissionDecisionReason": "A rule forbids it."}}))
