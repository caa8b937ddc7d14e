"""The sources and their cases: what of the environment each case sets.

`unexported` are the calls of a case, counted from 0, that the SDK doesn't report; `usage_unexported` those whose usage it
leaves out though the provider sent it. `gzip` is the case whose bodies are kept as they came too. The cases of
`hooks_only` are run for what hooks get.
"""

LATEST = {"OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental"}
CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
SCENARIOS = ["chat", "stream", "tools", "embeddings", "error"]

CALLS = ["chat", "stream", "stream-no-usage", "tools", "responses", "embeddings", "error"]
LANGFUSE = {"LANGFUSE_HOST": "$SINK", "LANGFUSE_BASE_URL": "$SINK", "LANGFUSE_PUBLIC_KEY": "pk-lf-recording",
            "LANGFUSE_SECRET_KEY": "sk-lf-recording", "LANGFUSE_FLUSH_INTERVAL": "1"}

SOURCES = {
    "openai-v2": {
        "script": "run_openai_v2.py", "venv": "openai-v2", "gzip": "no-opt-in-tools",
        "cases": {f"span-and-event-{s}": LATEST | {CAPTURE: "SPAN_AND_EVENT"} for s in SCENARIOS}
        | {"span-only-tools": LATEST | {CAPTURE: "SPAN_ONLY"}, "event-only-tools": LATEST | {CAPTURE: "EVENT_ONLY"},
           "no-content-tools": LATEST}
        | {"no-opt-in-tools": {CAPTURE: "true", "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}},
    },
    "openai-v2-v136": {
        "script": "run_openai_v2.py", "venv": "openai-v2-v136",
        "cases": {f"content-{s}": {CAPTURE: "true"} for s in SCENARIOS if s != "embeddings"}
        | {"no-content-tools": {}},
    },
    "claude-code": {
        "script": "run_claude_code.py", "venv": "agents",
        "cases": {c: {} for c in ("bash", "files", "denied", "failed", "subagent", "error", "mcp",
                              "logs-only-bash", "logs-only-subagent", "logs-only-denied")}
        | {"json-bash": {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}}
        | {"hooks-" + c: {} for c in ("bash", "files", "denied", "failed", "subagent", "error", "mcp")}
        | {"hooks-" + d: {"HOOK_DECISION": d} for d in ("deny", "ask", "rewrite")},
        "hooks_only": ["hooks-" + c for c in ("files", "denied", "failed", "subagent", "error", "mcp", "ask",
                                             "rewrite")],
    },
    "codex": {
        "script": "run_codex.py", "venv": "agents",
        "cases": {c: {} for c in ("shell", "failed", "patch", "mcp", "json-shell", "trace-shell",
                                  "hooks-shell", "hooks-failed",
                                  "hooks-patch", "hooks-mcp")}
        | {"hooks-" + d: {"HOOK_DECISION": d} for d in ("deny", "ask", "rewrite")},
        "hooks_only": ["hooks-shell", "hooks-failed", "hooks-patch", "hooks-mcp", "hooks-ask",
                       "hooks-rewrite"],
    },
    "gemini-cli": {
        "script": "run_gemini.py", "venv": "agents",
        "cases": {c: {} for c in ("shell", "files", "failed", "mcp", "hooks-shell", "hooks-files", "hooks-failed",
                              "hooks-mcp")}
        | {"hooks-" + d: {"HOOK_DECISION": d} for d in ("deny", "ask", "rewrite")},
        "hooks_only": ["hooks-shell", "hooks-files", "hooks-failed", "hooks-mcp", "hooks-ask",
                       "hooks-rewrite"],
    },
    "openinference": {
        "script": "run_openinference.py", "venv": "openinference",
        "cases": {"openai_" + c: {} for c in CALLS + ["session"]}
        | {"anthropic_" + c: {} for c in ("tools", "stream", "error")}
        | {c: {} for c in ("langchain_agent", "both_agent", "llamaindex_query", "agents_run")},
    },
    "openllmetry": {
        "script": "run_openllmetry.py", "venv": "openllmetry",
        "cases": {"openai_" + c: {} for c in CALLS}
        | {"anthropic_" + c: {} for c in ("tools", "stream", "error")}
        | {c: {} for c in ("langchain_agent", "decorators_run", "agents_run")},
    },
    "langfuse": {
        "script": "run_langfuse.py", "venv": "langfuse", "cases": {"types": LANGFUSE, "openai": LANGFUSE},
    },
    "langfuse-v3": {
        "script": "run_langfuse.py", "venv": "langfuse-v3", "cases": {"types": LANGFUSE, "openai": LANGFUSE},
    },
    "pydantic-ai": {
        "script": "run_pydantic_ai.py", "venv": "pydantic-ai",
        "cases": {c: {} for c in ("default", "version-2", "version-6", "stream", "anthropic",
                                  "logfire", "logfire-openai", "logfire-agents")},
    },
    "strands": {
        "script": "run_strands.py", "venv": "strands",
        "cases": {"once": {}, "twice": {}, "error": {}, "once-latest": {
            "OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental,gen_ai_tool_definitions"}},
    },
    "litellm": {
        "script": "run_litellm.py", "venv": "litellm",
        # Its providers are its own: nobody can flush them, so they export often.
        "cases": {c: {"OTEL_BSP_SCHEDULE_DELAY": "200"}
                  for c in ("tools", "stream", "anthropic", "error", "langfuse", "two")},
    },
    "google-adk": {
        "script": "run_adk.py", "venv": "adk",
        "cases": {"default": {}, "content": {CAPTURE: "true"}, "latest": LATEST | {CAPTURE: "SPAN_AND_EVENT"}},
    },
    "smolagents": {"script": "run_smolagents.py", "venv": "smolagents", "cases": {"run": {}}},
    "vercel-ai-v5": {
        "script": "run_vercel_ai.mjs", "venv": "ai-v5",
        "cases": {c: {} for c in ("tools", "stream", "embed", "error", "responses")},
    },
    "vercel-ai": {
        "script": "run_vercel_ai.mjs", "venv": "js",
        "cases": {p + c: {} for p in ("", "legacy-") for c in ("tools", "stream", "embed", "error", "responses")},
    },
    "langfuse-js": {"script": "run_langfuse.mjs", "venv": "js", "cases": {"types": LANGFUSE}},
    "openllmetry-v040": {
        "script": "run_openllmetry.py", "venv": "openllmetry-v040",
        "usage_unexported": {"openai_stream": [0], "anthropic_stream": [0]},
        "cases": {"openai_" + c: {} for c in CALLS if c != "responses"}
        | {"anthropic_" + c: {} for c in ("tools", "stream")}
        | {"decorators_run": {}},
    },
    "otel-genai": {
        "script": "run_otel_genai.py", "venv": "otel-genai",
        # One span for both calls, with the usage of the last.
        "unexported": {"google-tools": [0], "google-tools-no-opt-in": [0]},
        "cases": {c: LATEST | {CAPTURE: "SPAN_AND_EVENT"} for c in (
            "agents", "google-tools", "google-stream", "google-error")}
        | {"google-tools-no-opt-in": {CAPTURE: "true"}},
    },
    "anthropic-sdk": {
        "script": "run_anthropic_sdk.py", "venv": "openinference",
        "cases": {c: {} for c in ("tools", "stream", "error")},
    },
}
