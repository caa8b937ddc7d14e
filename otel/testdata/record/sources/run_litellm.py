"""LiteLLM with its `otel` callback; and with two callbacks that report the same call."""

import json
import os
import sys

case = sys.argv[1]
os.environ.update(OTEL_EXPORTER="otlp_http", OTEL_ENDPOINT=os.environ["SINK"] + "/v1/traces",
                  LITELLM_LOCAL_MODEL_COST_MAP="True")
import litellm  # noqa: E402

import common  # noqa: E402

common.EXPECT.update(session="session-7", user="ann")
if case.startswith("langfuse"):
    os.environ.update(LANGFUSE_HOST=os.environ["SINK"], LANGFUSE_OTEL_HOST=os.environ["SINK"],
                      LANGFUSE_PUBLIC_KEY="pk-lf-recording", LANGFUSE_SECRET_KEY="sk-lf-recording")
    litellm.callbacks = ["langfuse_otel"]
elif case == "two":
    os.environ.update(ARIZE_SPACE_KEY="recording", ARIZE_API_KEY="recording",
                      PHOENIX_COLLECTOR_HTTP_ENDPOINT=os.environ["SINK"] + "/v1/traces", PHOENIX_API_KEY="recording")
    litellm.callbacks = ["otel", "arize_phoenix"]
else:
    litellm.callbacks = ["otel"]



def told(**more):
    """LiteLLM writes into the metadata that it is given: each call has its own."""
    return {"model": "openai/gpt-4o-mini", "api_base": os.environ["OPENAI_BASE_URL"], "num_retries": 0,
            "max_retries": 0, "user": "ann",
            "metadata": {"session_id": "session-7", "trace_user_id": "ann", "generation_name": "weather"}} | more


if case == "stream":
    for _ in litellm.completion(messages=[{"role": "user", "content": "What is the capital of France?"}], stream=True,
                                stream_options={"include_usage": True}, **told()):
        pass
elif case == "error":
    try:
        litellm.completion(messages=[{"role": "user", "content": "Say a word. [[fail 400]]"}], **told())
    except Exception as e:
        print(type(e).__name__)
elif case == "anthropic":
    litellm.completion(messages=[{"role": "user", "content": "What is the capital of France?"}],
                       **told(model="anthropic/claude-sonnet-4-5", api_base=os.environ["UPSTREAM"]))
else:
    messages = [{"role": "user", "content": "How is the weather in Paris?"}]
    first = litellm.completion(messages=messages, tools=[common.WEATHER_TOOL], **told())
    call = first.choices[0].message.tool_calls[0]
    messages += [{"role": "assistant", "content": None, "tool_calls": [call.model_dump()]},
                 {"role": "tool", "tool_call_id": call.id,
                  "content": common.get_weather(**json.loads(call.function.arguments))}]
    litellm.completion(messages=messages, tools=[common.WEATHER_TOOL], **told())

import time  # noqa: E402
time.sleep(3)  # its callbacks run in threads
from opentelemetry import trace  # noqa: E402
provider = trace.get_tracer_provider()
if hasattr(provider, "force_flush"):
    provider.force_flush()
common.finish()
