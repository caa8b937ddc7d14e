"""LlamaIndex through the gateway, with nothing changed but the environment."""
import json
import os

from llama_index.llms.openai import OpenAI

llm = OpenAI(model="gpt-4o-mini", api_base=os.environ["OPENAI_BASE_URL"], max_retries=0)
question = "How long may a customer return a pump?"
r = llm.complete(question)
u = r.raw.usage
print(json.dumps({"name": "complete", "text": r.text, "input": u.prompt_tokens, "output": u.completion_tokens}))
text = ""
for chunk in llm.stream_complete(question):
    text = chunk.text
print(json.dumps({"name": "stream", "text": text, "input": None, "output": None}))
