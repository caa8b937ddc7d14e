"""Codex CLI, unmodified and headless (`codex exec`), with its telemetry and hooks on."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

case = sys.argv[1]
plain = case.removeprefix("trace-").removeprefix("json-").removeprefix("hooks-")
folder = pathlib.Path(os.environ["FOLDER"])
home = folder / "home-codex"
shutil.rmtree(home, ignore_errors=True)
work = home / "shop"
work.mkdir(parents=True)
(work / "hours.txt").write_text("Open from nine to five.\n")
(home / ".codex").mkdir()
protocol = "json" if case.startswith("json-") else "binary"
mcp = ""
if plain == "mcp":
    server = pathlib.Path(__file__).resolve().parent / "mcp_shop.py"
    mcp = f'[mcp_servers.shop]\ncommand = "{sys.executable}"\nargs = ["{server}"]'
# Its spans are of its own inside, and many: one case has them.
endpoint = f"{os.environ['SINK']}/v1/traces"
spans = '{ otlp-http = { endpoint = "%s", protocol = "%s" } }' % (endpoint, protocol) if "trace" in case else '"none"'
(home / ".codex" / "config.toml").write_text(f"""
model = "gpt-5"
model_provider = "recording"
check_for_update_on_startup = false
[model_providers.recording]
name = "Recording"
base_url = "{os.environ['UPSTREAM']}/v1"
env_key = "OPENAI_API_KEY"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
supports_websockets = false
[analytics]
enabled = false
[otel]
environment = "test"
log_user_prompt = true
exporter = {{ otlp-http = {{ endpoint = "{os.environ['SINK']}/v1/logs", protocol = "{protocol}" }} }}
trace_exporter = {spans}
metrics_exporter = "none"
[projects."{work}"]
trust_level = "trusted"
{mcp}
""")
shutil.rmtree(folder / "hooks" / "codex" / case, ignore_errors=True)
if case.startswith("hooks-"):
    save = {"type": "command", "command": f"{sys.executable} {pathlib.Path(__file__).resolve().parent.parent}"
            f"/hook_save.py {folder}/hooks/codex/{case}"}
    events = ["SessionStart", "UserPromptSubmit", "PreToolUse", "PermissionRequest", "PostToolUse", "Stop",
              "SubagentStart", "SubagentStop", "PreCompact", "PostCompact"]
    (home / ".codex" / "hooks.json").write_text(json.dumps({"hooks": {e: [{"hooks": [save]}] for e in events}}))

prompts = {
    "shell": 'Say the word. [[exec_command {"cmd": "echo konstruct"}]]',
    "mcp": 'Ask the shop. [[mcp__shop.opening_hours {"city": "Paris"}]]',
    "failed": 'Look. [[exec_command {"cmd": "cat missing.txt"}]]',
    "patch": "Change the hours. [[exec_command " + json.dumps({"cmd": "apply_patch <<'EOF'\n*** Begin Patch\n"
             "*** Update File: hours.txt\n@@\n-Open from nine to five.\n+Open from ten to five.\n*** End Patch\n"
             "EOF\n"}) + "]]",
}
prompts |= {d: prompts["shell"] for d in ("deny", "ask", "rewrite")}
truth = {
    "shell": [{"name": "exec_command", "arguments": {"cmd": "echo konstruct"}, "result": "konstruct",
               "success": True}],
    "mcp": [{"name": "opening_hours", "arguments": {"city": "Paris"}, "result": "Open from nine to five in Paris",
             "success": True}],
    "deny": [{"name": "exec_command", "arguments": {"cmd": "echo konstruct"}, "success": False}],
    "failed": [{"name": "exec_command", "arguments": {"cmd": "cat missing.txt"}, "success": False}],
    "patch": [{"name": "apply_patch", "success": True}],  # sent as a command of exec_command
}
truth |= {"ask": truth["deny"], "rewrite": truth["deny"]}
env = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_") and k != "OPENAI_BASE_URL"} | {
    "HOME": str(home), "CODEX_HOME": str(home / ".codex"), "USER": "ann"}
program = folder / "node" / "agents" / "node_modules" / ".bin" / "codex"
command = [str(program), "exec", "--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox",
           "--dangerously-bypass-hook-trust", prompts[plain]]
done = subprocess.run(command, env=env, cwd=work, capture_output=True, text=True, timeout=200,
                      stdin=subprocess.DEVNULL)
print(done.stdout[-3000:], done.stderr[-2000:])
said = [json.loads(x) for x in done.stdout.splitlines() if x.startswith("{")]
print("EXPECT " + json.dumps({
    "session": next((x["thread_id"] for x in said if "thread_id" in x), None), "tool_calls": truth[plain],
    "said_by_program": next((x["usage"] for x in said if x.get("type") == "turn.completed"), None)}))
