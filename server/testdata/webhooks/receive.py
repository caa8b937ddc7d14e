"""Receives webhooks, verifies each with the official library, and prints what it is, a JSON line each."""
import http.server
import json
import os

from standardwebhooks import Webhook, WebhookVerificationError


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            payload = Webhook(os.environ["SECRET"]).verify(body.decode(), dict(self.headers))
        except WebhookVerificationError:
            self.send_response(400)
            self.end_headers()
            return
        self.send_response(204)
        self.end_headers()
        print(json.dumps({"id": self.headers["webhook-id"], "payload": payload}), flush=True)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Receiver)
server.serve_forever()
