"""OpenAI's wire format: chat completions, responses, embeddings, models."""

import json
import struct
import base64

import brain


def text_of(content):
    if isinstance(content, str):
        return content
    return "".join(p.get("text", "") for p in content or [] if isinstance(p, dict))


def reasons(model):
    return model.startswith(("o1", "o3", "o4", "gpt-5"))


def error(status):
    kind, code = {429: ("rate_limit_exceeded", "rate_limit_exceeded")}.get(status, ("server_error", None))
    message = "Rate limit reached for requests" if status == 429 else "The server had an error"
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def chat(body, journal):
    """Returns (status, JSON body or an iterable of SSE data)."""
    n, model = journal.number(), body["model"]
    users = [text_of(m.get("content")) for m in body["messages"] if m["role"] == "user"]
    if status := brain.fault(users):
        journal.write(api="chat", model=model, status=status, prompt=users[-1] if users else "")
        return status, error(status)
    results = [text_of(m.get("content")) for m in body["messages"] if m["role"] == "tool"]
    results += [u for u in users if u.startswith("Observation:")]  # so smolagents tells a tool's result
    offered = [t["function"]["name"] for t in body.get("tools") or [] if t.get("type") == "function"]
    form = body.get("response_format") or {}
    schema = form.get("json_schema", {}).get("schema", {}) if form.get("type", "text") != "text" else None
    what = brain.decide(users, results, offered, schema)
    t = brain.numbers(n, reasons(model))
    usage = {
        "prompt_tokens": t["input"], "completion_tokens": t["output"], "total_tokens": t["input"] + t["output"],
        "prompt_tokens_details": {"cached_tokens": t["cached"], "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": t["reasoning"], "audio_tokens": 0,
                                      "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
    }
    served = model if model[-3:].isdigit() else model + "-2026-08-01"
    head = {"id": f"chatcmpl-rec{n:04d}", "created": 1796035200 + n, "model": served,
            "service_tier": "default", "system_fingerprint": "fp_recording"}
    call = {"id": f"call_rec{n:04d}", "type": "function"}
    finish = "stop"
    message = {"role": "assistant", "content": None, "refusal": None, "annotations": []}
    if what[0] == "tool":
        finish = "tool_calls"
        call["function"] = {"name": what[1], "arguments": json.dumps(what[2])}
        message["tool_calls"] = [call]
    else:
        message["content"] = what[1]
    stream = bool(body.get("stream"))
    with_usage = not stream or bool((body.get("stream_options") or {}).get("include_usage"))
    journal.write(api="chat", model=model, response_model=served, response_id=head["id"], status=200, stream=stream,
                  usage_sent=with_usage, usage=usage, input_tokens=t["input"], output_tokens=t["output"],
                  cached_tokens=t["cached"], reasoning_tokens=t["reasoning"], finish_reason=finish,
                  prompt=users[-1] if users else "", completion=message["content"],
                  tool_calls=message.get("tool_calls"))
    if not stream:
        return 200, head | {"object": "chat.completion", "usage": usage, "choices": [
            {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}]}
    return 200, chat_stream(head | {"object": "chat.completion.chunk"}, what, call, finish,
                            usage if with_usage else None)


def chat_stream(head, what, call, finish, usage):
    def chunk(delta, reason=None):
        c = head | {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]}
        return json.dumps(c | ({"usage": None} if usage else {}))

    yield None, chunk({"role": "assistant", "content": None if what[0] == "tool" else "", "refusal": None})
    if what[0] == "tool":
        yield None, chunk({"tool_calls": [{"index": 0, "id": call["id"], "type": "function",
                                           "function": {"name": what[1], "arguments": ""}}]})
        for piece in brain.words(call["function"]["arguments"]):
            yield None, chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
    else:
        for piece in brain.words(what[1]):
            yield None, chunk({"content": piece})
    yield None, chunk({}, finish)
    if usage:
        yield None, json.dumps(head | {"choices": [], "usage": usage})
    yield None, "[DONE]"


def embeddings(body, journal):
    n = journal.number()
    given = body["input"] if isinstance(body["input"], list) else [body["input"]]
    if given and isinstance(given[0], int):
        given = [given]
    dims, data = body.get("dimensions") or 8, []
    for i, text in enumerate(given):
        vector = [((hash_of(str(text)) >> (j % 24)) % 97) / 97 + 0.01 for j in range(dims)]
        if body.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack(f"<{dims}f", *vector)).decode()
        data.append({"object": "embedding", "index": i, "embedding": vector})
    tokens = 7 * len(given) + n
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    journal.write(api="embeddings", model=body["model"], response_model=body["model"], status=200, usage_sent=True,
                  usage=usage, input_tokens=tokens, output_tokens=0, cached_tokens=0, reasoning_tokens=0,
                  prompt=given[0] if len(given) == 1 else given)
    return 200, {"object": "list", "model": body["model"], "data": data, "usage": usage}


def hash_of(text):
    h = 2166136261
    for b in text.encode():
        h = ((h ^ b) * 16777619) & 0xFFFFFFFF
    return h


def responses(body, journal):
    n, model = journal.number(), body["model"]
    given = body.get("input")
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given or []
    users = [text_of(i.get("content")) for i in items if i.get("role") == "user"]
    if status := brain.fault(users):
        journal.write(api="responses", model=model, status=status, prompt=users[-1] if users else "")
        return status, error(status)
    results = [out_of(i) for i in items if str(i.get("type", "")).endswith("_call_output")]
    tools = body.get("tools") or []
    offered = [t.get("name") or t.get("type") for t in tools if t.get("type") != "namespace"]
    spaces = {f"{t['name']}.{f['name']}": t["name"] for t in tools if t.get("type") == "namespace"
              for f in t.get("tools") or []}  # so Codex offers an MCP server's tools
    offered += list(spaces)
    custom = {t.get("name") for t in tools if t.get("type") == "custom"}
    form = (body.get("text") or {}).get("format") or {}
    what = brain.decide(users, results, offered, form.get("schema", {}) if form.get("type") == "json_schema" else None)
    t = brain.numbers(n, reasons(model))
    usage = {"input_tokens": t["input"], "input_tokens_details": {"cached_tokens": t["cached"]},
             "output_tokens": t["output"], "output_tokens_details": {"reasoning_tokens": t["reasoning"]},
             "total_tokens": t["input"] + t["output"]}
    output = []
    if t["reasoning"]:
        output.append({"id": f"rs_rec{n:04d}", "type": "reasoning", "summary": [], "content": [],
                       "encrypted_content": None, "status": "completed"})
    if what[0] == "tool" and what[1] in custom:
        item = {"id": f"ctc_rec{n:04d}", "type": "custom_tool_call", "status": "completed",
                "call_id": f"call_rec{n:04d}", "name": what[1], "input": what[2]}
    elif what[0] == "tool":
        item = {"id": f"fc_rec{n:04d}", "type": "function_call", "status": "completed",
                "call_id": f"call_rec{n:04d}", "name": what[1], "arguments": json.dumps(what[2])}
        if what[1] in spaces:
            item |= {"namespace": spaces[what[1]], "name": what[1].split(".", 1)[1]}
    else:
        item = {"id": f"msg_rec{n:04d}", "type": "message", "status": "completed", "role": "assistant",
                "content": [{"type": "output_text", "text": what[1], "annotations": [], "logprobs": []}]}
    output.append(item)
    whole = {
        "id": f"resp_rec{n:04d}", "object": "response", "created_at": 1796035200 + n, "status": "completed",
        "background": False, "error": None, "incomplete_details": None, "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"), "model": model, "output": output,
        "parallel_tool_calls": True, "previous_response_id": None, "reasoning": {"effort": None, "summary": None},
        "service_tier": "default", "store": bool(body.get("store", True)), "temperature": 1.0, "text": {
            "format": form or {"type": "text"}}, "tool_choice": body.get("tool_choice", "auto"), "tools": tools,
        "top_p": 1.0, "truncation": "disabled", "usage": usage, "user": None, "metadata": {},
    }
    stream = bool(body.get("stream"))
    journal.write(api="responses", model=model, response_model=model, response_id=whole["id"], status=200,
                  stream=stream, usage_sent=True, usage=usage, input_tokens=t["input"], output_tokens=t["output"],
                  cached_tokens=t["cached"], reasoning_tokens=t["reasoning"],
                  finish_reason="tool_calls" if what[0] == "tool" else "stop", prompt=users[-1] if users else "",
                  completion=what[1] if what[0] == "text" else None,
                  tool_calls=[item] if what[0] == "tool" else None)
    return 200, responses_stream(whole) if stream else whole


def out_of(item):
    out = item.get("output")
    return out if isinstance(out, str) else text_of(out) or json.dumps(out)


def responses_stream(whole):
    seq = [0]

    def event(kind, **more):
        e = {"type": kind, "sequence_number": seq[0]} | more
        seq[0] += 1
        return kind, json.dumps(e)

    begun = whole | {"status": "in_progress", "output": [], "usage": None}
    yield event("response.created", response=begun)
    yield event("response.in_progress", response=begun)
    for i, item in enumerate(whole["output"]):
        at = {"output_index": i, "item_id": item["id"]}
        if item["type"] == "message":
            yield event("response.output_item.added", output_index=i,
                        item=item | {"status": "in_progress", "content": []})
            part = item["content"][0]
            yield event("response.content_part.added", content_index=0, part=part | {"text": ""}, **at)
            for piece in brain.words(part["text"]):
                yield event("response.output_text.delta", content_index=0, delta=piece, logprobs=[], **at)
            yield event("response.output_text.done", content_index=0, text=part["text"], logprobs=[], **at)
            yield event("response.content_part.done", content_index=0, part=part, **at)
        elif item["type"] == "function_call":
            yield event("response.output_item.added", output_index=i,
                        item=item | {"status": "in_progress", "arguments": ""})
            for piece in brain.words(item["arguments"]):
                yield event("response.function_call_arguments.delta", delta=piece, **at)
            yield event("response.function_call_arguments.done", arguments=item["arguments"], name=item["name"], **at)
        else:
            yield event("response.output_item.added", output_index=i, item=item)
        yield event("response.output_item.done", output_index=i, item=item)
    yield event("response.completed", response=whole)


def models():
    names = ["gpt-4o-mini", "gpt-4o", "o4-mini", "gpt-5", "text-embedding-3-small"]
    return 200, {"object": "list", "data": [
        {"id": m, "object": "model", "created": 1796035200, "owned_by": "openai"} for m in names]}
