"""Gemini's wire format: generateContent, streamGenerateContent, countTokens, embeddings."""

import json

import brain


def text_of(parts):
    return "".join(p.get("text", "") for p in parts or [])


def asked(given):
    """Returns the last text part of the user: what was typed, not what a program put before it."""
    parts = [p["text"] for c in given if c.get("role", "user") == "user" for p in c.get("parts") or [] if "text" in p]
    return parts[-1] if parts else ""


def error(status):
    kind = {429: "RESOURCE_EXHAUSTED"}.get(status, "INTERNAL")
    return {"error": {"code": status, "message": f"Fault {status} as ordered", "status": kind}}


def generate(model, body, journal, stream):
    n = journal.number()
    given = body.get("contents") or []
    given = [given] if isinstance(given, dict) else given
    users = [text_of(c.get("parts")) for c in given if c.get("role", "user") == "user"]
    users = [u for u in users if u]
    if status := brain.fault(users):
        journal.write(api="generateContent", model=model, status=status, prompt=asked(given))
        return status, error(status)
    results = [json.dumps(p["functionResponse"].get("response")) for c in given for p in c.get("parts") or []
               if "functionResponse" in p]
    # ADK tells a sub-agent what was called before it as text of the user.
    results += [u for u in users if "tool returned result" in u]
    offered = [f["name"] for t in body.get("tools") or []
               for f in t.get("functionDeclarations") or t.get("function_declarations") or []]
    config = body.get("generationConfig") or {}
    schema = config.get("responseJsonSchema") or config.get("responseSchema")
    if config.get("responseMimeType") != "application/json":
        schema = None
    what = brain.decide(users, results, offered, schema)
    t = brain.numbers(n, reasons=True)
    # Gemini counts cached tokens in the prompt, and thoughts beside the candidates.
    usage = {"promptTokenCount": t["input"], "candidatesTokenCount": t["output"] - t["reasoning"],
             "thoughtsTokenCount": t["reasoning"], "cachedContentTokenCount": t["cached"],
             "totalTokenCount": t["input"] + t["output"],
             "promptTokensDetails": [{"modality": "TEXT", "tokenCount": t["input"]}]}
    part = {"text": what[1]} if what[0] == "text" else {"functionCall": {"name": what[1], "args": what[2]}}
    tail = {"usageMetadata": usage, "modelVersion": model, "responseId": f"gem-rec{n:04d}"}
    journal.write(api="generateContent", model=model, response_model=model, response_id=tail["responseId"],
                  status=200, stream=stream, usage_sent=True, usage=usage, input_tokens=t["input"],
                  output_tokens=t["output"], cached_tokens=t["cached"], reasoning_tokens=t["reasoning"],
                  finish_reason="STOP", prompt=asked(given),
                  completion=what[1] if what[0] == "text" else None,
                  tool_calls=[part["functionCall"]] if what[0] == "tool" else None)

    def answer(p, reason):
        c = {"content": {"parts": [p], "role": "model"}, "index": 0}
        return {"candidates": [c | ({"finishReason": reason} if reason else {})]} | tail

    if not stream:
        return 200, answer(part, "STOP")
    pieces = [{"text": w} for w in brain.words(what[1])] if what[0] == "text" else [part]
    return 200, ((None, json.dumps(answer(p, "STOP" if p is pieces[-1] else None))) for p in pieces)


def count_tokens():
    return 200, {"totalTokens": 100}
