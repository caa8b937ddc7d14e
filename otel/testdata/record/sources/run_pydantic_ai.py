"""Pydantic AI, instrumented by Logfire or by its own Agent.instrument_all()."""

import sys

import common

case = sys.argv[1]
if case.startswith("logfire"):
    import logfire
    logfire.configure(send_to_logfire=False, console=False, service_name="recording")
    logfire.instrument_pydantic_ai()
    if case == "logfire-openai":
        logfire.instrument_openai()
    if case == "logfire-agents":
        logfire.instrument_openai_agents()
    traces = None
else:
    traces, _ = common.tracing()

from pydantic_ai import Agent  # noqa: E402
try:
    from pydantic_ai import InstrumentationSettings
except ImportError:
    from pydantic_ai.models.instrumented import InstrumentationSettings

if case.startswith("version-"):
    Agent.instrument_all(InstrumentationSettings(version=int(case[8:])))
elif not case.startswith("logfire"):
    Agent.instrument_all()


def weather_agent(model):
    agent = Agent(model, name="weather_agent", instructions="You know the weather.")

    @agent.tool_plain
    def get_weather(city: str) -> str:
        """Says the weather of a city."""
        return common.get_weather(city)

    return agent


if case == "logfire-agents":
    import agents_sdk
    agents_sdk.run()
elif case == "logfire-openai":
    import calls
    calls.openai("tools")
elif case == "anthropic":
    print(weather_agent("anthropic:claude-sonnet-4-5").run_sync("How is the weather in Paris?").output)
    common.EXPECT.update(agents=["weather_agent"])
elif case == "stream":
    import asyncio

    async def stream():
        async with weather_agent("openai-chat:gpt-4o-mini").run_stream("How is the weather in Paris?") as run:
            async for _ in run.stream_text():
                pass
    asyncio.run(stream())
    common.EXPECT.update(agents=["weather_agent"])
else:
    agent = weather_agent("openai-chat:o4-mini")
    first = agent.run_sync("How is the weather in Paris?", conversation_id="session-7") \
        if "conversation_id" in Agent.run_sync.__kwdefaults__ else agent.run_sync("How is the weather in Paris?")
    common.EXPECT.update(agents=["weather_agent"],
                         session="session-7" if "conversation_id" in Agent.run_sync.__kwdefaults__ else None)
if traces is None:
    import logfire
    logfire.force_flush()
common.finish(traces)
