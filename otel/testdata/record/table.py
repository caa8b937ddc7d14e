"""Rewrites the table of ../exports/README.md from the cases' expect files:  python3 table.py"""

import json
import pathlib
import re

import cases

HERE = pathlib.Path(__file__).resolve().parent
EXPORTS = HERE.parent / "exports"
SHOWN = {  # the packages that matter, by environment
    "openai-v2": ["opentelemetry-instrumentation-openai-v2", "opentelemetry-util-genai", "openai"],
    "openai-v2-v136": ["opentelemetry-instrumentation-openai-v2", "opentelemetry-sdk", "openai"],
    "openinference": ["openinference-instrumentation-openai", "openinference-instrumentation-anthropic",
                      "openinference-instrumentation-langchain", "openinference-instrumentation-llama-index",
                      "openinference-instrumentation-openai-agents", "openai", "anthropic", "langchain",
                      "llama-index-core", "openai-agents"],
    "openllmetry": ["traceloop-sdk", "openai", "anthropic", "langchain", "openai-agents"],
    "openllmetry-v040": ["traceloop-sdk", "openai", "anthropic"],
    "langfuse": ["langfuse", "openai"], "langfuse-v3": ["langfuse", "openai"],
    "pydantic-ai": ["pydantic-ai-slim", "logfire", "openai", "anthropic", "openai-agents"],
    "strands": ["strands-agents", "openai"], "litellm": ["litellm"], "adk": ["google-adk", "google-genai"],
    "smolagents": ["smolagents", "openinference-instrumentation-smolagents"],
    "otel-genai": ["opentelemetry-instrumentation-google-genai", "opentelemetry-instrumentation-openai-agents-v2",
                   "opentelemetry-util-genai", "google-genai", "openai-agents"],
    "agents": ["@anthropic-ai/claude-code", "@openai/codex", "@google/gemini-cli"],
    "ai-v5": ["ai", "@ai-sdk/openai"], "js": ["ai", "@ai-sdk/otel", "@ai-sdk/openai", "@langfuse/otel"],
}
ONLY = {"claude-code": "@anthropic-ai", "codex": "@openai/codex", "gemini-cli": "@google", "langfuse-js": "@langfuse",
        "vercel-ai": "a", "anthropic-sdk": "anthropic"}
SAYS = {
    "chat": "a chat call", "stream": "a streamed chat call with usage", "stream-no-usage": "a streamed call, no usage",
    "tools": "a tool called, its result, the answer", "embeddings": "two texts embedded", "embed": "a text embedded",
    "error": "calls that fail (429, 500, 529 or 400)", "responses": "Responses API: a tool call; a streamed answer",
    "session": "a call with session and user", "agent": "an agent with a tool and a retriever",
    "query": "a query engine over two documents", "run": "an agent, a tool; a handoff or guardrail where there are",
    "types": "every type of observation", "openai": "calls through its wrapper of `openai`, a tool, an error",
    "subagent": "a sub-agent, in the background, with a shell command", "bash": "a shell command", "shell": "same",
    "files": "files read and changed", "denied": "a command that no rule allows", "failed": "a tool that fails",
    "deny": "a command that a hook denies", "patch": "a patch by a shell command", "mcp": "a tool of an MCP server",
    "twice": "an agent asked twice", "once": "an agent asked once", "two": "two callbacks report the same calls",
    "langfuse": "its langfuse_otel callback", "anthropic": "the same with Anthropic", "default": "defaults",
    "content": "content captured", "latest": "latest conventions, content in span and record", "agents": "Agents SDK",
    "logfire": "an agent reported by Logfire",
}
SAYS["shell"] = SAYS["bash"]


def versions(source):
    place = cases.SOURCES[source]["venv"]
    pins = HERE / "requirements" / f"{place}.txt"
    if pins.exists():
        have = dict(re.findall(r"^([\w.-]+)==(\S+)", pins.read_text(), re.M))
    else:
        have = json.loads((HERE / "requirements" / f"{place}.package.json").read_text())["dependencies"]
    only = ONLY.get(source, "")
    names = [n for n in SHOWN[place] if n.startswith(only) or (source == "vercel-ai" and n.startswith("@ai-sdk"))]
    return ", ".join(f"{n} {have[n]}" for n in names)


def says(case):
    parts = re.split(r"[-_]", case)
    for size in (3, 2, 1):
        word = "-".join(parts[-size:])
        if word in SAYS:
            before = " ".join(parts[:-size])
            return SAYS[word] + (f" ({before})" if before else "")
    return case


def main():
    lines = []
    for source, spec in cases.SOURCES.items():
        lines += ["", f"### {source}", "", versions(source) + ".", "",
                  "| case | what it does | calls | input | output | cached | reasoning |",
                  "| --- | --- | --- | --- | --- | --- | --- |"]
        for case in spec["cases"]:
            path = EXPORTS / source / f"{case}.expect.json"
            if not path.exists():
                continue
            e = json.loads(path.read_text())
            calls = [c for c in e["llm_calls"] + e["embeddings"] if c.get("status", 200) == 200]
            t = [sum(c.get(k) or 0 for c in calls)
                 for k in ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")]
            lines.append(f"| {case} | {says(case)} | {len(calls)} | " + " | ".join(map(str, t)) + " |")
    readme = EXPORTS / "README.md"
    head = readme.read_text().split("<!-- table -->")[0]
    readme.write_text(head + "<!-- table -->\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
