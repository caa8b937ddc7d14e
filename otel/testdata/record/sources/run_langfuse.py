"""Langfuse's Python SDK: only LANGFUSE_HOST is changed; it sends to /api/public/otel/v1/traces."""

import contextlib
import sys

import langfuse
from langfuse import get_client, observe

import common

case = sys.argv[1]
client = get_client()


@contextlib.contextmanager
def session():
    if hasattr(langfuse, "propagate_attributes"):
        with langfuse.propagate_attributes(user_id="ann", session_id="session-7", tags=["test"],
                                           metadata={"shop": "7"}):
            yield
    else:
        client.update_current_trace(user_id="ann", session_id="session-7", tags=["test"], metadata={"shop": "7"})
        yield


def call(kind, name, **more):
    return client.start_as_current_observation(as_type=kind, name=name, **more)


common.EXPECT.update(session="session-7", user="ann")
if case == "types":
    with call("agent", "weather_agent", input={"question": "How is the weather in Paris?"}) as agent, session():
        with call("guardrail", "polite", input="How is the weather in Paris?") as g:
            g.update(output={"passed": True})
        with call("retriever", "shop docs", input={"query": "weather"}) as r:
            r.update(output=[{"id": "hours", "content": "Open from nine to five.", "score": 0.9}])
        with call("embedding", "embed", model="text-embedding-3-small", input="weather",
                  usage_details={"input": 8, "total": 8}) as e:
            e.update(output=[0.1, 0.2])
        with call("generation", "answer", model="o4-mini", model_parameters={"temperature": 0.2, "max_tokens": 100},
                  input=[{"role": "system", "content": "You answer in one sentence."},
                         {"role": "user", "content": "How is the weather in Paris?"}]) as gen:
            gen.update(output={"role": "assistant", "content": "It is 21 degrees in Paris."},
                       usage_details={"input": 110, "output": 21, "total": 131, "input_cached_tokens": 33,
                                      "output_reasoning_tokens": 6},
                       cost_details={"input": 0.00011, "output": 0.000084, "total": 0.000194})
        with call("tool", "get_weather", input={"city": "Paris"}) as t:
            t.update(output=common.get_weather("Paris"))
        with call("evaluator", "judge", input="x") as ev:
            ev.update(output={"score": 1})
        with call("chain", "format") as c:
            c.update(output="done", metadata={"step": 3})
        with contextlib.suppress(ValueError):
            with call("tool", "broken", input={"a": 1}):
                raise ValueError("the tool broke")
        with call("span", "warned", level="WARNING", status_message="slow") as s:
            s.update(output="late")
        client.create_event(name="cache miss", input={"key": "weather"}, metadata={"n": 1}) \
            if hasattr(client, "create_event") else None
        agent.update(output="It is 21 degrees in Paris.")
    # The application said these numbers, no provider did.
    call_of = {"model": "o4-mini", "input_tokens": 110, "output_tokens": 21, "cached_tokens": 33,
               "reasoning_tokens": 6, "finish_reason": None, "prompt": "How is the weather in Paris?",
               "completion": "It is 21 degrees in Paris.", "cost_usd": 0.000194}
    common.EXPECT.update(
        llm_calls=[call_of], embeddings=[{"model": "text-embedding-3-small", "input_tokens": 8}], retrievals=1,
        agents=["weather_agent"], guardrails=1, evaluators=1, events=1)
    common.EXPECT["tool_calls"].append({"name": "broken", "arguments": {"a": 1}, "error": "the tool broke"})
elif case == "openai":
    from langfuse.openai import openai

    @observe(as_type="tool")
    def get_weather(city):
        return common.get_weather(city)

    @observe(as_type="agent", name="weather_agent")
    def run():
        with session():
            told = {"model": "o4-mini", "messages": [{"role": "user", "content": "How is the weather in Paris?"}]}
            openai.OpenAI(max_retries=0).chat.completions.create(tools=[common.WEATHER_TOOL], **told)
            get_weather("Paris")
            for _ in openai.OpenAI(max_retries=0).chat.completions.create(
                    stream=True, stream_options={"include_usage": True}, **told):
                pass
            with contextlib.suppress(Exception):
                openai.OpenAI(max_retries=0).chat.completions.create(
                    model="o4-mini", messages=[{"role": "user", "content": "Say a word. [[fail 500]]"}])
            return "done"

    run()
    common.EXPECT.update(agents=["weather_agent"])
client.flush()
client.shutdown()
common.finish()
