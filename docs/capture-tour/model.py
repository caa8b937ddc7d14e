"""A fake model: OpenAI's chat completions over HTTP. It looks an order up, refunds it, and says what became of that.

It listens at any free port of this machine and prints its address."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CALLS = [("look_up_order", {"order": 17}), ("refund_order", {"order": 17, "amount": 129})]
# Tokens in and out, by how many tools have answered.
TOKENS = [(112, 18), (164, 24), (205, 21)]


def reply(messages):
    """Returns the model's message to a conversation, and why it ends."""
    results = [m["content"] for m in messages if m["role"] == "tool"]
    if len(results) < 2:
        name, arguments = CALLS[len(results)]
        call = {"id": f"call_{len(results) + 1}", "type": "function",
                "function": {"name": name, "arguments": json.dumps(arguments)}}
        return {"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls"
    done = "Refunded" in str(results[-1])
    text = "You get 129.00 EUR back." if done else "I may not refund it: a colleague will write to you."
    return {"role": "assistant", "content": text}, "stop"


class Model(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        message, finish = reply(body["messages"])
        turn = min(sum(m["role"] == "tool" for m in body["messages"]), 2)
        given, made = TOKENS[turn]
        answer = json.dumps({
            "id": f"chatcmpl-tour-{turn + 1}", "object": "chat.completion", "created": 1796035200 + turn,
            "model": body["model"] + "-2026-08-01",
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
            "usage": {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


service = ThreadingHTTPServer(("127.0.0.1", 0), Model)
print(f"http://127.0.0.1:{service.server_port}/v1", flush=True)
service.serve_forever()
