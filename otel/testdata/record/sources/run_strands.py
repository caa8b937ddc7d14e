"""Strands Agents with its own telemetry: the agent's span repeats the usage of its calls."""

import os
import sys

import common

case = sys.argv[1]
from strands import Agent, tool  # noqa: E402
from strands.models.openai import OpenAIModel  # noqa: E402
from strands.telemetry import StrandsTelemetry  # noqa: E402

telemetry = StrandsTelemetry()
telemetry.setup_otlp_exporter()


@tool
def get_weather(city: str) -> str:
    """Says the weather of a city.

    Args:
        city: The city.
    """
    return common.get_weather(city)


model = OpenAIModel(client_args={"api_key": "sk-recording", "base_url": os.environ["OPENAI_BASE_URL"]},
                    model_id="gpt-4o-mini")
agent = Agent(model=model, tools=[get_weather], name="weather_agent", system_prompt="You know the weather.",
              callback_handler=None, trace_attributes={"session.id": "session-7", "user.id": "ann"})
prompt = "How is the weather in Paris?"
try:
    print(agent(prompt if case != "error" else "Say a word. [[fail 400]]"))
    if case == "twice":
        print(agent("And now?"))
except Exception as e:
    print(type(e).__name__)
common.EXPECT.update(agents=["weather_agent"], session="session-7", user="ann")
common.finish(telemetry.tracer_provider)
