"""Calls through the gateway with the anthropic SDK: the only change is base_url and the key, from the environment."""
import json

import anthropic

client = anthropic.Anthropic(default_headers={"X-Konstruct-Conversation": "anthropic-python"}, max_retries=0)
question = [{"role": "user", "content": "How long may a customer return a pump?"}]
tools = [{"name": "get_weather", "input_schema": {"type": "object"}}]


def total(u):
    return u.input_tokens + (u.cache_read_input_tokens or 0) + (u.cache_creation_input_tokens or 0)


def show(name, text, usage=None, **more):
    print(json.dumps({"name": name, "text": text, "input": usage and total(usage),
                      "output": usage and usage.output_tokens, **more}))


r = client.messages.create(model="claude-fake-5", max_tokens=1024, messages=question)
show("messages", r.content[0].text, r.usage)

with client.messages.stream(model="claude-fake-5", max_tokens=1024, messages=question) as stream:
    text = "".join(stream.text_stream)
    r = stream.get_final_message()
show("messages stream", text, r.usage)

with client.messages.stream(model="claude-fake-5", max_tokens=1024, messages=question, tools=tools) as stream:
    r = stream.get_final_message()
show("messages tools", f"{r.content[0].name} {json.dumps(r.content[0].input, ensure_ascii=False)}", r.usage)

show("count", str(client.messages.count_tokens(model="claude-fake-5", messages=question).input_tokens))
show("models", " ".join(m.id for m in client.models.list()))

errors = {}
try:
    anthropic.Anthropic(api_key="sk-not-ours", max_retries=0).messages.create(
        model="claude-fake-5", max_tokens=5, messages=question)
except anthropic.AuthenticationError as e:
    errors["no key"] = e.body["error"]["type"]
try:
    client.messages.create(model="claude-fake-5", max_tokens=5, messages=question, extra_headers={"X-Fake": "429"})
except anthropic.RateLimitError as e:
    errors["rate limit"] = e.body["error"]["type"]
try:
    with client.messages.stream(model="claude-fake-5", max_tokens=5, messages=question,
                                extra_headers={"X-Fake": "error-event"}) as stream:
        stream.get_final_message()
except anthropic.APIStatusError as e:
    errors["in the stream"] = e.body["error"]["type"]
show("errors", json.dumps(errors))
