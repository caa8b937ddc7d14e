"""A fake provider that speaks the real wire formats of OpenAI, Anthropic and Gemini, on loopback.

    python3 upstream.py [PORT]     # for a try by hand; record.py starts it in its own process
"""

import gzip
import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import brain
import wire_anthropic
import wire_gemini
import wire_openai


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    journal = None
    keep = None  # a list that gets each request's path and body, for a look at what a client asks

    def log_message(self, *args):
        pass

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            raw = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                raw += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            raw = gzip.decompress(raw)
        return json.loads(raw) if raw[:1] in (b"{", b"[") else {}

    def answer(self, status, what):
        stream = not isinstance(what, (dict, list))
        self.send_response(status)
        # A program may take the request's id for the response's: each has its own.
        self.send_header("x-request-id", f"req_rec{self.journal.requests():04d}")
        self.send_header("request-id", f"req_rec{self.journal.requests():04d}")
        if status == 429:
            self.send_header("retry-after-ms", "1")
            self.send_header("retry-after", "0")
        if not stream:
            raw = json.dumps(what).encode()
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)
            return
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        for event, data in what:
            self.wfile.write(((f"event: {event}\n" if event else "") + f"data: {data}\n\n").encode())
            self.wfile.flush()

    def do_GET(self):
        path = self.path.split("?")[0]
        if self.keep is not None:
            self.keep.append((path, None))
        if path.endswith("/models"):
            return self.answer(*wire_openai.models())
        self.answer(404, {"error": {"message": "no such page", "type": "not_found_error"}})

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self):
        path, body = self.path.split("?")[0], self.body()
        if self.keep is not None:
            self.keep.append((self.path, body))
        j = self.journal
        if path.endswith("/chat/completions"):
            return self.answer(*wire_openai.chat(body, j))
        if path.endswith("/responses"):
            return self.answer(*wire_openai.responses(body, j))
        if path.endswith("/embeddings"):
            return self.answer(*wire_openai.embeddings(body, j))
        if path.endswith("/messages/count_tokens"):
            return self.answer(*wire_anthropic.count_tokens(body))
        if path.endswith("/messages"):
            return self.answer(*wire_anthropic.messages(body, j))
        m = re.search(r"/models/([^/:]+):(\w+)$", path)
        if m and m.group(2) in ("generateContent", "streamGenerateContent"):
            stream = m.group(2).startswith("stream")
            return self.answer(*wire_gemini.generate(m.group(1), body, j, stream))
        if m and m.group(2) == "countTokens":
            return self.answer(*wire_gemini.count_tokens())
        self.answer(404, {"error": {"message": "no such page", "type": "not_found_error"}})


def start(port=0, keep=None):
    """Starts the provider; returns its server, whose journal has what it answered."""
    journal = brain.Journal()
    handler = type("Upstream", (Handler,), {"journal": journal, "keep": keep})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    server.journal = journal
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


if __name__ == "__main__":
    provider = start(int(sys.argv[1]) if len(sys.argv) > 1 else 7801)
    print("fake provider on", provider.server_address)
    threading.Event().wait()
