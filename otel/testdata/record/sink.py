"""An OTLP/HTTP endpoint that keeps each request's body as it came.

    python3 sink.py PORT FOLDER    # for a try by hand; record.py starts it in its own process
"""

import gzip
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    got = None

    def log_message(self, *args):
        pass

    def do_POST(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            raw = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                raw += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        is_json = "json" in self.headers.get("Content-Type", "")
        path = self.path.split("?")[0]
        signal = path.rsplit("/", 1)[-1]
        if signal in ("traces", "logs", "metrics"):
            gz = raw if self.headers.get("Content-Encoding") == "gzip" else None
            self.got.append({
                "path": path, "signal": signal, "ext": "json" if is_json else "pb", "gzip": gz,
                "body": gzip.decompress(raw) if gz else raw, "headers": dict(self.headers),
            })
        answer = b"{}" if is_json else b""
        self.send_response(200)
        self.send_header("Content-Type", "application/json" if is_json else "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def do_GET(self):
        raw = json.dumps({"data": [{"id": "recording", "name": "recording"}], "status": "OK"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


def start(port=0):
    """Starts the endpoint; returns its server, whose list `got` has what came."""
    got = []
    server = ThreadingHTTPServer(("127.0.0.1", port), type("Sink", (Handler,), {"got": got}))
    server.daemon_threads = True
    server.got = got
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


if __name__ == "__main__":
    endpoint = start(int(sys.argv[1]))
    os.makedirs(sys.argv[2], exist_ok=True)
    n = 0
    while not threading.Event().wait(0.2):
        while n < len(endpoint.got):
            g = endpoint.got[n]
            n += 1
            with open(os.path.join(sys.argv[2], f"{n}.{g['signal']}.{g['ext']}"), "wb") as f:
                f.write(g["body"])
