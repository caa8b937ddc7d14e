"""opentelemetry-instrumentation-openai-v2 with opentelemetry-util-genai: the OpenTelemetry project's own."""

import json
import sys

from openai import OpenAI
from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor

import common

case = sys.argv[1].rsplit("-", 1)[1]
traces, logs = common.tracing(logs=True)
try:  # before 2.3b0 the per-message events went by an API of their own
    from opentelemetry.sdk._events import EventLoggerProvider
    events = {"event_logger_provider": EventLoggerProvider(logs)}
except ImportError:
    events = {}
OpenAIInstrumentor().instrument(tracer_provider=traces, logger_provider=logs, **events)
client = OpenAI(max_retries=0)
system = {"role": "system", "content": "You answer in one sentence."}

if case == "chat":
    client.chat.completions.create(
        model="gpt-4o-mini", messages=[system, {"role": "user", "content": "What is the capital of France?"}],
        temperature=0.2, max_tokens=100, seed=7)
elif case == "stream":
    for _ in client.chat.completions.create(
            model="gpt-4o-mini", messages=[system, {"role": "user", "content": "What is the capital of France?"}],
            stream=True, stream_options={"include_usage": True}):
        pass
elif case == "tools":
    with traces.get_tracer("app").start_as_current_span("answer the customer"):
        messages = [system, {"role": "user", "content": "How is the weather in Paris?"}]
        first = client.chat.completions.create(model="o4-mini", messages=messages, tools=[common.WEATHER_TOOL])
        call = first.choices[0].message.tool_calls[0]
        messages.append(first.choices[0].message.model_dump(exclude_none=True, exclude={"annotations"}))
        result = common.get_weather(**json.loads(call.function.arguments))
        messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
        client.chat.completions.create(model="o4-mini", messages=messages, tools=[common.WEATHER_TOOL])
elif case == "embeddings":
    client.embeddings.create(model="text-embedding-3-small", input="Open from nine to five", dimensions=16)
elif case == "error":
    for status in (429, 500):
        try:
            client.chat.completions.create(
                model="gpt-4o-mini", messages=[{"role": "user", "content": f"Say a word. [[fail {status}]]"}])
        except Exception as e:
            print(type(e).__name__, e)
common.finish(traces, logs)
