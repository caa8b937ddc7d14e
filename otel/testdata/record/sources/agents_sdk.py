"""A run of the OpenAI Agents SDK, for each of the instrumentations that report it: a guardrail, a handoff, a tool."""

import asyncio

import common


def run(metadata=None):
    from agents import Agent, GuardrailFunctionOutput, RunConfig, Runner, function_tool, input_guardrail

    @function_tool
    def get_weather(city: str) -> str:
        """Says the weather of a city."""
        return common.get_weather(city)

    @input_guardrail
    async def polite(context, agent, given):
        return GuardrailFunctionOutput(output_info={"polite": True}, tripwire_triggered=False)

    weather = Agent(name="Weather agent", instructions="You know the weather.", model="gpt-4o-mini",
                    tools=[get_weather], handoff_description="Knows the weather")
    triage = Agent(name="Triage agent", instructions="You hand over.", model="gpt-4o-mini", handoffs=[weather],
                   input_guardrails=[polite])
    prompt = 'How is the weather in Paris? [[transfer_to_weather_agent {}]] [[get_weather {"city": "Paris"}]]'
    result = asyncio.run(Runner.run(triage, prompt, run_config=RunConfig(
        workflow_name="Customer service", group_id="session-7", trace_metadata=metadata or {"user": "ann"})))
    print(result.final_output)
    common.EXPECT.update(agents=["Triage agent", "Weather agent"], session="session-7", handoffs=1, guardrails=1)
