"""Searches files through the gateway with the openai SDK: the only change is base_url and the key."""
import json
import os

import openai

client = openai.OpenAI(max_retries=0)
store = os.environ["VECTOR_STORE"]
tool = {"type": "file_search", "vector_store_ids": [store], "max_num_results": 2,
        "filters": {"type": "ne", "key": "file", "value": "hostile.txt"},
        "ranking_options": {"ranker": "auto", "score_threshold": 0.0}}
question = "When is a pump sent back?"
include = ["file_search_call.results"]


def show(name, text, citations, queries=None, results=None, usage=None):
    print(json.dumps({"name": name, "text": text, "citations": citations, "queries": queries, "results": results,
                      "input": usage}))


def response(name, r):
    search, message = r.output
    assert search.type == "file_search_call" and search.status == "completed", search
    part = message.content[0]
    show(name, r.output_text, [[a.type, a.filename, a.index] for a in part.annotations], search.queries,
         [x.filename for x in search.results], r.usage.input_tokens)
    assert [x.file_id for x in search.results] == [a.file_id for a in part.annotations]


response("responses", client.responses.create(model="gpt-fake-5", input=question, tools=[tool], include=include))

with client.responses.stream(model="gpt-fake-5", input=question, tools=[tool], include=include) as stream:
    text, added, kinds = "", [], set()
    for event in stream:
        kinds.add(event.type)
        if event.type == "response.output_text.delta":
            text += event.delta
        if event.type == "response.output_text.annotation.added":
            added.append(event.annotation)
    final = stream.get_final_response()
assert text == final.output_text, (text, final.output_text)
assert len(added) == len(final.output[1].content[0].annotations)
assert {"response.file_search_call.in_progress", "response.file_search_call.searching",
        "response.file_search_call.completed"} <= kinds, kinds
response("responses stream", final)

# The next turn: the items again, and another question.
items = [{"role": "user", "content": question}] + [i.model_dump(exclude_none=True) for i in final.output]
again = client.responses.create(model="gpt-fake-5", tools=[tool], include=include,
                                input=items + [{"role": "user", "content": "How long is the warranty?"}])
response("responses again", again)


def chat(name, message, usage):
    show(name, message.content, [[a.type, a.file_citation["filename"], a.file_citation["index"]]
                                 for a in message.annotations], None, None, usage.prompt_tokens)


messages = [{"role": "user", "content": question}]
r = client.chat.completions.create(model="gpt-fake-5", messages=messages, tools=[tool])
chat("chat", r.choices[0].message, r.usage)
messages += [r.choices[0].message, {"role": "user", "content": "How long is the warranty?"}]
r = client.chat.completions.create(model="gpt-fake-5", messages=messages, tools=[tool])
chat("chat again", r.choices[0].message, r.usage)

text, citations, usage = "", [], None
for chunk in client.chat.completions.create(model="gpt-fake-5", messages=messages[:1], tools=[tool], stream=True,
                                            stream_options={"include_usage": True}):
    usage = chunk.usage or usage
    for choice in chunk.choices:
        text += choice.delta.content or ""
        for a in getattr(choice.delta, "annotations", None) or []:
            citations.append([a["type"], a["file_citation"]["filename"], a["file_citation"]["index"]])
show("chat stream", text, citations, None, None, usage.prompt_tokens)

with client.chat.completions.stream(model="gpt-fake-5", messages=messages[:1], extra_body={"tools": [tool]},
                                    stream_options={"include_usage": True}) as stream:
    for _ in stream:
        pass
    done = stream.get_final_completion()
chat("chat helper", done.choices[0].message, done.usage)

errors = {}
for name, change in {"gone": {"vector_store_ids": ["vs_01980000000070008000000000000000"]},
                     "unknown": {"colour": "red"}}.items():
    try:
        client.responses.create(model="gpt-fake-5", input=question, tools=[tool | change])
    except openai.APIStatusError as e:
        errors[name] = f"{type(e).__name__} {e.code} {e.param}"
show("errors", json.dumps(errors), [])
