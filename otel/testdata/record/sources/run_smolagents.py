"""smolagents by OpenInference: a ToolCallingAgent."""

import os

import common

traces, _ = common.tracing()
from openinference.instrumentation.smolagents import SmolagentsInstrumentor  # noqa: E402
SmolagentsInstrumentor().instrument(tracer_provider=traces)
from smolagents import OpenAIServerModel, ToolCallingAgent, tool  # noqa: E402


@tool
def get_weather(city: str) -> str:
    """Says the weather of a city.

    Args:
        city: The city.
    """
    return common.get_weather(city)


model = OpenAIServerModel("gpt-4o-mini", api_base=os.environ["OPENAI_BASE_URL"], api_key="sk-recording")
agent = ToolCallingAgent(tools=[get_weather], model=model, name="weather_agent", description="Knows the weather")
print(agent.run('How is the weather in Paris? [[get_weather {"city": "Paris"}]] '
                '[[final_answer {"answer": "It is 21 degrees in Paris."}]]'))
common.EXPECT["tool_calls"].append({"name": "final_answer", "arguments": {"answer": "It is 21 degrees in Paris."}})
common.EXPECT.update(agents=["weather_agent"])
common.finish(traces)
