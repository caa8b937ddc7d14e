"""Calls through the gateway with the openai SDK: the only change is base_url and the key, from the environment."""
import json
import sys

import openai

client = openai.OpenAI(default_headers={"X-Konstruct-Conversation": "openai-python"}, max_retries=0)
question = [{"role": "user", "content": "How long may a customer return a pump?"}]
tools = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}]


def show(name, text, usage=None, **more):
    print(json.dumps({"name": name, "text": text, "input": usage and usage[0], "output": usage and usage[1], **more}))


r = client.chat.completions.create(model="gpt-fake-5", messages=question)
show("chat", r.choices[0].message.content, (r.usage.prompt_tokens, r.usage.completion_tokens))

text, usage = "", None
for chunk in client.chat.completions.create(
    model="gpt-fake-5", messages=question, stream=True, stream_options={"include_usage": True}
):
    usage = chunk.usage or usage
    for choice in chunk.choices:
        text += choice.delta.content or ""
show("chat stream", text, (usage.prompt_tokens, usage.completion_tokens))

with client.chat.completions.stream(
    model="gpt-fake-5", messages=question, tools=tools, stream_options={"include_usage": True}
) as stream:
    for _ in stream:
        pass
    done = stream.get_final_completion()
call = done.choices[0].message.tool_calls[0].function
show("chat tools", f"{call.name} {call.arguments}", (done.usage.prompt_tokens, done.usage.completion_tokens))

r = client.responses.create(model="gpt-fake-5", input="How long may a customer return a pump?")
show("responses", r.output_text, (r.usage.input_tokens, r.usage.output_tokens))

with client.responses.stream(model="gpt-fake-5", input="How long may a customer return a pump?") as stream:
    for _ in stream:
        pass
    r = stream.get_final_response()
show("responses stream", r.output_text, (r.usage.input_tokens, r.usage.output_tokens))

r = client.embeddings.create(model="embed-fake", input="pump", encoding_format="float")
show("embeddings", str(r.data[0].embedding), (r.usage.prompt_tokens, 0))

show("models", " ".join(m.id for m in client.models.list()))

errors = {}
try:
    client.chat.completions.create(model="llama", messages=question)
except openai.NotFoundError as e:
    errors["unknown model"] = e.code
try:
    client.with_options(api_key="sk-not-ours").chat.completions.create(model="gpt-fake-5", messages=question)
except openai.AuthenticationError as e:
    errors["no key"] = e.code
try:
    client.chat.completions.create(model="gpt-fake-5", messages=question, extra_headers={"X-Fake": "429"})
except openai.RateLimitError as e:
    errors["rate limit"] = e.code
try:
    for _ in client.chat.completions.create(
        model="gpt-fake-5", messages=question, stream=True, extra_headers={"X-Fake": "error-event"}
    ):
        pass
except openai.APIError as e:
    errors["in the stream"] = e.type
show("errors", json.dumps(errors))
sys.exit(0)
