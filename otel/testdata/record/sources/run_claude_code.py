"""Claude Code, unmodified and headless (`claude -p`), with its telemetry and hooks on."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

case = sys.argv[1]
plain = case
for prefix in ("json-", "hooks-", "logs-only-"):
    plain = plain.removeprefix(prefix)
folder = pathlib.Path(os.environ["FOLDER"])
home = folder / "home-claude"
shutil.rmtree(home, ignore_errors=True)
work = home / "shop"
work.mkdir(parents=True)
(work / "hours.txt").write_text("Open from nine to five.\n")
(work / ".claude" / "agents").mkdir(parents=True)
(work / ".claude" / "agents" / "reader.md").write_text(
    "---\nname: reader\ndescription: Reads a file and says what is in it.\ntools: Read, Bash\n---\nYou read files.\n")
(home / ".claude").mkdir()
save = {"type": "command", "command": f"{sys.executable} {pathlib.Path(__file__).resolve().parent.parent}"
        f"/hook_save.py {folder}/hooks/claude-code/{case}"}
events = ["SessionStart", "SessionEnd", "UserPromptSubmit", "UserPromptExpansion", "PreToolUse", "PostToolUse",
          "PostToolUseFailure", "PostToolBatch", "PermissionRequest", "PermissionDenied", "Notification", "Stop",
          "StopFailure", "SubagentStart", "SubagentStop", "PreCompact", "PostCompact", "InstructionsLoaded",
          "ConfigChange", "CwdChanged", "FileChanged", "TaskCreated", "TaskCompleted"]
shutil.rmtree(folder / "hooks" / "claude-code" / case, ignore_errors=True)
if case.startswith("hooks-"):
    (home / ".claude" / "settings.json").write_text(json.dumps({"hooks": {e: [{"hooks": [save]} | ({"matcher": "*"} if "Tool" in e else {})]
                                                                for e in events}}))

prompts = {
    "bash": ('Say the word. [[Bash {"command": "echo konstruct", "description": "Say the word"}]]',
             ["Bash(echo:*)"]),
    "files": ('Look at the hours and change them. [[Read {"file_path": "%s/hours.txt"}]] '
              '[[Edit {"file_path": "%s/hours.txt", "old_string": "nine", "new_string": "ten"}]] '
              '[[Write {"file_path": "%s/new.txt", "content": "new\\n"}]]' % (work, work, work),
              ["Read", "Edit", "Write"]),
    "denied": ('Clean up. [[Bash {"command": "rm hours.txt", "description": "Remove the hours"}]]', []),
    "deny": ('Say. [[Bash {"command": "echo konstruct", "description": "Say"}]]', ["Bash(echo:*)"]),
    "failed": ('Look. [[Bash {"command": "cat missing.txt", "description": "Look"}]]', ["Bash(cat:*)"]),
    "subagent": ('Ask the reader. [[Agent {"description": "Read the hours", "subagent_type": "reader", "prompt": '
                 '"Read the hours. [[Bash {\\"command\\": \\"cat hours.txt\\"}]]"}]]', ["Bash(cat:*)", "Agent"]),
    "mcp": ('Ask the shop. [[mcp__shop__opening_hours {"city": "Paris"}]]', ["mcp__shop__opening_hours"]),
    "error": ("Say a word. [[fail 400]]", []),
}
prompts |= {"ask": prompts["deny"], "rewrite": prompts["deny"]}
bash = {"name": "Bash"}
truth = {
    "bash": [bash | {"arguments": {"command": "echo konstruct", "description": "Say the word"},
                     "result": "konstruct", "success": True}],
    "files": [{"name": "Read", "arguments": {"file_path": f"{work}/hours.txt"}, "success": True},
              {"name": "Edit", "arguments": {"file_path": f"{work}/hours.txt", "old_string": "nine",
                                             "new_string": "ten"}, "success": True},
              {"name": "Write", "arguments": {"file_path": f"{work}/new.txt", "content": "new\n"}, "success": True}],
    "denied": [bash | {"arguments": {"command": "rm hours.txt", "description": "Remove the hours"}, "success": False,
                       "decision": "reject"}],
    "deny": [bash | {"arguments": {"command": "echo konstruct", "description": "Say"}, "success": False,
                     "decision": "reject"}],
    "failed": [bash | {"arguments": {"command": "cat missing.txt", "description": "Look"}, "success": False}],
    "subagent": [{"name": "Agent", "success": True}, bash | {"arguments": {"command": "cat hours.txt"},
                 "result": "Open from nine to five.", "success": True, "agent": "reader"}],
    "mcp": [{"name": "mcp__shop__opening_hours", "arguments": {"city": "Paris"},
             "result": "Open from nine to five in Paris", "success": True}],
    "error": [],
}
truth |= {"ask": truth["deny"], "rewrite": truth["deny"]}
prompt, allowed = prompts[plain]
env = {k: v for k, v in os.environ.items() if k not in ("OTEL_SERVICE_NAME", "OPENAI_API_KEY", "OPENAI_BASE_URL")} | {
    "HOME": str(home), "CLAUDE_CODE_ENABLE_TELEMETRY": "1", "CLAUDE_CODE_ENHANCED_TELEMETRY_BETA": "1",
    "OTEL_LOGS_EXPORTER": "otlp", "OTEL_METRICS_EXPORTER": "otlp", "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_LOG_USER_PROMPTS": "1", "OTEL_LOG_TOOL_DETAILS": "1", "OTEL_LOG_TOOL_CONTENT": "1",
    "OTEL_LOGS_EXPORT_INTERVAL": "500", "OTEL_METRIC_EXPORT_INTERVAL": "1000", "OTEL_TRACES_EXPORT_INTERVAL": "500",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1", "ENABLE_TOOL_SEARCH": "false", "OTEL_RESOURCE_ATTRIBUTES": "os.version=6.12,team.name=shop",
    "USER": "ann",
}
if case.startswith("logs-only-"):  # what most people set
    for k in ("CLAUDE_CODE_ENHANCED_TELEMETRY_BETA", "OTEL_TRACES_EXPORTER", "OTEL_LOG_TOOL_CONTENT"):
        del env[k]
program = folder / "node" / "agents" / "node_modules" / ".bin" / "claude"
command = [str(program), "-p", prompt, "--model", "claude-sonnet-4-5", "--output-format", "json", "--max-turns", "8"]
if allowed:
    command += ["--allowedTools", ",".join(allowed)]
if plain == "mcp":
    server = {"command": sys.executable, "args": [str(pathlib.Path(__file__).resolve().parent / "mcp_shop.py")]}
    command += ["--mcp-config", json.dumps({"mcpServers": {"shop": server}})]
done = subprocess.run(command, env=env, cwd=work, capture_output=True, text=True, timeout=200,
                      stdin=subprocess.DEVNULL)
print(done.stdout[-3000:], done.stderr[-2000:])
said = json.loads(done.stdout.strip().splitlines()[-1]) if done.stdout.strip().startswith("{") else {}
print("EXPECT " + json.dumps({
    "session": said.get("session_id"), "agents": ["reader"] if "subagent" in case else [],
    "tool_calls": truth[plain], "said_by_program": {
    k: said.get(k) for k in ("total_cost_usd", "usage", "num_turns", "result", "permission_denials")}}))
