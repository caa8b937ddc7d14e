"""OpenLLMetry (Traceloop): openai, anthropic, LangChain, and traceloop-sdk's decorators."""

import os
import sys

from traceloop.sdk import Traceloop
from traceloop.sdk.decorators import agent, task, tool, workflow

import calls
import common

library, case = sys.argv[1].split("_")
Traceloop.init(app_name="recording", api_endpoint=os.environ["SINK"], api_key="recording", disable_batch=False,
               telemetry_enabled=False)

if library == "openai":
    calls.openai(case)
elif library == "anthropic":
    calls.anthropic(case)
elif library == "langchain":
    calls.langchain()
elif library == "decorators":
    @tool(name="get_weather")
    def get_weather(city):
        return common.get_weather(city)

    @task(name="ask_model")
    def ask():
        calls.openai("chat")

    @agent(name="weather_agent")
    def weather_agent(question):
        ask()
        return get_weather("Paris")

    @workflow(name="customer_service")
    def customer_service(question):
        return weather_agent(question)

    Traceloop.set_association_properties({"user_id": "ann", "session_id": "session-7", "shop": "7"})
    customer_service("How is the weather in Paris?")
    common.EXPECT.update(agents=["weather_agent"], session="session-7", user="ann", workflows=["customer_service"])
elif library == "agents":
    import agents_sdk
    agents_sdk.run()

from opentelemetry import trace  # noqa: E402
common.finish(trace.get_tracer_provider())
