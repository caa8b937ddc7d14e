"""Anthropic's wire format: messages, and their count of tokens."""

import json

import brain


def text_of(content):
    if isinstance(content, str):
        return content
    return "".join(b.get("text", "") for b in content or [] if b.get("type") == "text")


def asked(body):
    """Returns the last text block of the user: what was typed, not what a program put before it."""
    last = ""
    for m in body["messages"]:
        blocks = [{"type": "text", "text": m["content"]}] if isinstance(m["content"], str) else m["content"]
        if m["role"] == "user":
            last = next((b["text"] for b in reversed(blocks) if b.get("type") == "text"), last)
    return last


def error(status):
    kind = {429: "rate_limit_error", 529: "overloaded_error"}.get(status, "api_error")
    return {"type": "error", "error": {"type": kind, "message": f"Fault {status} as ordered"}, "request_id": "req_rec"}


def messages(body, journal):
    n, model = journal.number(), body["model"]
    users = [text_of(m["content"]) for m in body["messages"] if m["role"] == "user"]
    users = [u for u in users if u]
    if status := brain.fault(users):
        journal.write(api="messages", model=model, status=status, prompt=asked(body))
        return status, error(status)
    results = [text_of(b.get("content")) for m in body["messages"] if isinstance(m["content"], list)
               for b in m["content"] if b.get("type") == "tool_result"]
    offered = [t["name"] for t in body.get("tools") or [] if "name" in t]
    form = body.get("output_format") or (body.get("output_config") or {}).get("format") or {}
    what = brain.decide(users, results, offered, form.get("schema") if form.get("type") == "json_schema" else None)
    t = brain.numbers(n)
    # Anthropic counts cached tokens beside input, not in it.
    created = 5 + n
    fresh = t["input"] - t["cached"] - created
    usage = {"input_tokens": fresh, "cache_creation_input_tokens": created, "cache_read_input_tokens": t["cached"],
             "cache_creation": {"ephemeral_5m_input_tokens": created, "ephemeral_1h_input_tokens": 0},
             "output_tokens": t["output"], "service_tier": "standard"}
    if what[0] == "tool":
        block = {"type": "tool_use", "id": f"toolu_rec{n:04d}", "name": what[1], "input": what[2]}
    else:
        block = {"type": "text", "text": what[1]}
    stop = "tool_use" if what[0] == "tool" else "end_turn"
    whole = {"id": f"msg_rec{n:04d}", "type": "message", "role": "assistant", "model": model, "content": [block],
             "stop_reason": stop, "stop_sequence": None, "usage": usage}
    stream = bool(body.get("stream"))
    journal.write(api="messages", model=model, response_model=model, response_id=whole["id"], status=200,
                  stream=stream, usage_sent=True, usage=usage, input_tokens=t["input"], output_tokens=t["output"],
                  cached_tokens=t["cached"], cache_creation_tokens=created, reasoning_tokens=0, finish_reason=stop,
                  prompt=asked(body), completion=what[1] if what[0] == "text" else None,
                  tool_calls=[block] if what[0] == "tool" else None)
    return 200, stream_of(whole, block) if stream else whole


def stream_of(whole, block):
    def event(kind, **more):
        return kind, json.dumps({"type": kind} | more)

    usage = whole["usage"]
    yield event("message_start", message=whole | {"content": [], "stop_reason": None,
                                                  "usage": usage | {"output_tokens": 1}})
    if block["type"] == "text":
        yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        yield event("ping")
        for piece in brain.words(block["text"]):
            yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
    else:
        yield event("content_block_start", index=0, content_block=block | {"input": {}})
        for piece in brain.words(json.dumps(block["input"])):
            yield event("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": piece})
    yield event("content_block_stop", index=0)
    # Usage of the last message is cumulative: it says the input again.
    yield event("message_delta", delta={"stop_reason": whole["stop_reason"], "stop_sequence": None},
                usage={k: v for k, v in usage.items() if k.endswith("tokens")})
    yield event("message_stop")


def count_tokens(body):
    return 200, {"input_tokens": 100 + len(body.get("messages", []))}
