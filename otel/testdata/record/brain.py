"""What the fake provider answers: deterministic, told by the conversation itself.

A prompt may hold directives: [[NAME {"json": "arguments"}]]. The fake model calls those tools in that order, one a
turn, if they are offered. Without directives it calls the first offered tool that it knows, once. Then it answers
with text. Each call's usage is a function of its number, so that no two calls of a case have the same numbers.
"""

import json
import re
import threading

KNOWN = {
    "get_weather": {"city": "Paris"},
    "weather": {"city": "Paris"},
    "search_docs": {"query": "opening hours"},
    "search_shop_docs": {"query": "opening hours"},
    "final_answer": {"answer": "It is 21 degrees in Paris."},
}

ANSWER = "Paris is the capital of France."


class Journal:
    """The provider's own books: one entry for each request that it answered."""

    def __init__(self):
        self._lock = threading.Lock()
        self._entries = []
        self._calls = 0

    def number(self):
        with self._lock:
            self._calls += 1
            return self._calls

    def requests(self):
        """Returns how many requests were numbered."""
        with self._lock:
            return self._calls

    def write(self, **entry):
        with self._lock:
            entry["request_id"] = f"req_rec{self._calls:04d}"
            self._entries.append(entry)

    def take(self):
        """Returns the entries since the last take, and begins anew."""
        with self._lock:
            entries, self._entries, self._calls = self._entries, [], 0
            return entries


def directives(text):
    """Returns the (name, arguments) of the text's directives; those inside of arguments are the sub-agent's."""
    found, at = [], 0
    while True:
        m = re.compile(r"\[\[([A-Za-z0-9_.-]+) ?").search(text, at)
        if not m:
            return found
        try:
            args, end = json.JSONDecoder().raw_decode(text, m.end())
        except ValueError:
            at = m.end()
            continue
        found.append((m.group(1), args))
        at = end


def by_schema(schema):
    """Returns the smallest value that a JSON schema takes."""
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0]
    if "enum" in schema:
        return schema["enum"][0]
    if kind == "object" or "properties" in schema:
        return {k: by_schema(v) for k, v in schema.get("properties", {}).items()}
    return {"array": [], "number": 1, "integer": 1, "boolean": True, "null": None}.get(kind, "Paris")


def decide(user_texts, results, offered, schema=None):
    """Returns ("tool", name, arguments) or ("text", text)."""
    told = [d for t in user_texts for d in directives(t)]
    if told:
        if len(results) < len(told) and told[len(results)][0] in offered:
            return ("tool",) + told[len(results)]
    elif not results:
        for name in offered:
            if name in KNOWN:
                return ("tool", name, KNOWN[name])
    if schema is not None:
        return ("text", json.dumps(by_schema(schema)))
    if results:
        return ("text", "The tool says: " + results[-1].split("\n\n<system-")[0].strip()[:120])
    return ("text", ANSWER)


def numbers(n, reasons=False):
    """Returns the tokens of a case's n-th call. Input has the cached ones in it, output the reasoning ones."""
    return {"input": 100 + 10 * n, "cached": 32 + n, "output": 20 + n, "reasoning": 5 + n if reasons else 0}


def fault(user_texts):
    """Returns the HTTP status of the error that the prompt orders, or 0."""
    m = re.search(r"\[\[fail (\d+)\]\]", user_texts[-1] if user_texts else "")
    return int(m.group(1)) if m else 0


def words(text, n=3):
    """Cuts text into n pieces, for a stream."""
    size = max(1, -(-len(text) // n))
    return [text[i:i + size] for i in range(0, len(text), size)]
