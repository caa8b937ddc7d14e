"""The sources and their cases: what of the environment each case sets."""

LATEST = {"OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental"}
CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
SCENARIOS = ["chat", "stream", "tools", "embeddings", "error"]

CALLS = ["chat", "stream", "stream-no-usage", "tools", "responses", "embeddings", "error"]

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
        "cases": {c: {} for c in ("bash", "files", "denied", "failed", "subagent", "error")}
        | {"json-bash": {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}}
        | {"hooks-" + c: {} for c in ("bash", "files", "denied", "failed", "subagent", "error")}
        | {"hooks-deny": {"HOOK_DENY": "1"}},
        "hooks_only": ["hooks-" + c for c in ("files", "denied", "failed", "subagent", "error")],
    },
    "codex": {
        "script": "run_codex.py", "venv": "agents",
        "cases": {c: {} for c in ("shell", "failed", "patch", "json-shell", "trace-shell",
                                  "hooks-shell", "hooks-failed",
                                  "hooks-patch")}
        | {"hooks-deny": {"HOOK_DENY": "1"}},
        "hooks_only": ["hooks-failed", "hooks-patch"],
    },
    "gemini-cli": {
        "script": "run_gemini.py", "venv": "agents",
        "cases": {c: {} for c in ("shell", "files", "failed", "hooks-shell", "hooks-files", "hooks-failed")}
        | {"hooks-deny": {"HOOK_DENY": "1"}},
        "hooks_only": ["hooks-shell", "hooks-files", "hooks-failed"],
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
}
