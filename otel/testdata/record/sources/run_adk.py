"""Google ADK with its own spans: an agent with a tool and a sub-agent."""

import asyncio
import os
import sys

case = sys.argv[1]
os.environ.update(GOOGLE_API_KEY="recording", GOOGLE_GENAI_USE_VERTEXAI="0",
                  GOOGLE_GEMINI_BASE_URL=os.environ["UPSTREAM"])
import common  # noqa: E402

traces, logs = common.tracing(logs=True)
from google.adk.agents import Agent  # noqa: E402
from google.adk.runners import InMemoryRunner  # noqa: E402
from google.genai import types  # noqa: E402


def get_weather(city: str) -> dict:
    """Says the weather of a city."""
    return {"weather": common.get_weather(city)}


weather = Agent(name="weather_agent", model="gemini-2.5-flash", instruction="You know the weather.",
                description="Knows the weather", tools=[get_weather])
root = Agent(name="triage_agent", model="gemini-2.5-flash", instruction="You hand over.", sub_agents=[weather])


async def run():
    runner = InMemoryRunner(agent=root, app_name="shop")
    session = await runner.session_service.create_session(app_name="shop", user_id="ann", session_id="session-7")
    prompt = ('How is the weather in Paris? [[transfer_to_agent {"agent_name": "weather_agent"}]] '
              '[[get_weather {"city": "Paris"}]]')
    message = types.Content(role="user", parts=[types.Part(text=prompt)])
    async for event in runner.run_async(user_id="ann", session_id=session.id, new_message=message):
        print(str(event.content)[:100])

asyncio.run(run())
common.EXPECT["tool_calls"].insert(0, {"name": "transfer_to_agent", "arguments": {"agent_name": "weather_agent"}})
common.EXPECT.update(agents=["triage_agent", "weather_agent"], session="session-7", user="ann")
common.finish(traces, logs)
