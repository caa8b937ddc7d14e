"""Gemini CLI, unmodified and headless (`gemini -p`), with its telemetry and hooks on."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

case = sys.argv[1]
plain = case.removeprefix("trace-").removeprefix("hooks-")
folder = pathlib.Path(os.environ["FOLDER"])
home = folder / "home-gemini"
shutil.rmtree(home, ignore_errors=True)
work = home / "shop"
work.mkdir(parents=True)
(work / "hours.txt").write_text("Open from nine to five.\n")
(home / ".gemini").mkdir()
# Its own system prompt is 30 KB, and would be in each record.
(home / "system.md").write_text("You are a coding agent.\n")
settings = {
    "security": {"auth": {"selectedType": "gemini-api-key"}, "folderTrust": {"enabled": False}},
    "general": {"disableAutoUpdate": True, "disableUpdateNag": True, "enableAutoUpdate": False},
    "privacy": {"usageStatisticsEnabled": False},
    "model": {"name": "gemini-2.5-flash"},
    "telemetry": {"enabled": True, "target": "local", "useCollector": True, "otlpEndpoint": os.environ["SINK"],
                  "otlpProtocol": "http", "logPrompts": True, "traces": case == "shell"},
}
shutil.rmtree(folder / "hooks" / "gemini-cli" / case, ignore_errors=True)
if case.startswith("hooks-"):
    save = {"type": "command", "command": f"{sys.executable} {pathlib.Path(__file__).resolve().parent.parent}"
            f"/hook_save.py {folder}/hooks/gemini-cli/{case}"}
    events = ["SessionStart", "SessionEnd", "BeforeAgent", "AfterAgent", "BeforeModel", "AfterModel",
              "BeforeToolSelection", "BeforeTool", "AfterTool", "PreCompress", "Notification"]
    settings["hooks"] = {e: [{"matcher": "*", "hooks": [save]}] for e in events}
if plain == "mcp":
    server = pathlib.Path(__file__).resolve().parent / "mcp_shop.py"
    settings["mcpServers"] = {"shop": {"command": sys.executable, "args": [str(server)], "trust": True}}
(home / ".gemini" / "settings.json").write_text(json.dumps(settings))

prompts = {
    "shell": 'Say the word. [[run_shell_command {"command": "echo konstruct", "description": "Say the word"}]]',
    "files": 'Look and write. [[read_file {"file_path": "hours.txt"}]] '
             '[[write_file {"file_path": "%s/new.txt", "content": "new\\n"}]]' % work,
    "mcp": 'Ask the shop. [[mcp_shop_opening_hours {"city": "Paris"}]]',
    "failed": 'Look. [[read_file {"file_path": "missing.txt"}]]',
}
prompts |= {d: prompts["shell"] for d in ("deny", "ask", "rewrite")}
shell = {"name": "run_shell_command", "arguments": {"command": "echo konstruct", "description": "Say the word"}}
truth = {
    "shell": [shell | {"result": "konstruct", "success": True}],
    "mcp": [{"name": "mcp_shop_opening_hours", "arguments": {"city": "Paris"},
             "result": "Open from nine to five in Paris", "success": True}],
    "deny": [shell | {"success": False}],
    "files": [{"name": "read_file", "arguments": {"file_path": "hours.txt"}, "success": True},
              {"name": "write_file", "arguments": {"file_path": f"{work}/new.txt", "content": "new\n"},
               "success": True}],
    "failed": [{"name": "read_file", "arguments": {"file_path": "missing.txt"}, "success": False}],
}
truth |= {"ask": truth["deny"], "rewrite": truth["deny"]}
env = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "OPENAI", "ANTHROPIC"))} | {
    "HOME": str(home), "GEMINI_API_KEY": "recording", "GOOGLE_GEMINI_BASE_URL": os.environ["UPSTREAM"],
    "GEMINI_CLI_TRUST_WORKSPACE": "true", "USER": "ann", "OTEL_NODE_RESOURCE_DETECTORS": "env",
    "GEMINI_SYSTEM_MD": str(home / "system.md"), "NO_BROWSER": "1"}
program = folder / "node" / "agents" / "node_modules" / ".bin" / "gemini"
command = [str(program), "-p", prompts[plain], "--approval-mode", "yolo", "--output-format", "json",
           "--skip-trust", "-m", "gemini-2.5-flash"]
try:
    done = subprocess.run(command, env=env, cwd=work, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          timeout=20 if plain == "ask" else 120)
except subprocess.TimeoutExpired:
    if plain != "ask":
        raise
    sys.exit(0)  # headless, it waits for a person who never comes
print(done.stdout[-3000:], done.stderr[-2000:])
at = done.stdout.find("{")
said = json.JSONDecoder().raw_decode(done.stdout[at:])[0] if at >= 0 else {}
print("EXPECT " + json.dumps({"session": said.get("session_id"), "tool_calls": truth[plain],
                              "said_by_program": said.get("stats", {}).get("models")}))
