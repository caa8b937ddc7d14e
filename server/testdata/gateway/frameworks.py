"""LangChain and the OpenAI Agents SDK through the gateway, with nothing changed but the environment."""
import json

from agents import Agent, Runner, function_tool, set_tracing_disabled
from langchain_anthropic import ChatAnthropic
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

question = "How long may a customer return a pump?"


def show(name, text, usage=None):
    print(json.dumps({"name": name, "text": text, "input": usage and usage["input_tokens"],
                      "output": usage and usage["output_tokens"]}))


@tool
def get_weather(city: str, days: int) -> str:
    """Get the weather."""
    return "21 degrees"


for name, model in {"openai": ChatOpenAI(model="gpt-fake-5", stream_usage=True),
                    "anthropic": ChatAnthropic(model="claude-fake-5", max_tokens=1024)}.items():
    r = model.invoke(question)
    show("langchain " + name, r.text, r.usage_metadata)
    whole = None
    for chunk in model.stream(question):
        whole = chunk if whole is None else whole + chunk
    show(f"langchain {name} stream", whole.text, whole.usage_metadata)
    r = model.bind_tools([get_weather]).invoke(question)
    show(f"langchain {name} tools", json.dumps(r.tool_calls[0]["args"], ensure_ascii=False), r.usage_metadata)


@function_tool(name_override="get_weather")
def weather(city: str, days: int) -> str:
    """Get the weather."""
    return f"21 degrees in {city}"


set_tracing_disabled(True)
agent = Agent(name="clerk", instructions="Answer.", model="gpt-fake-5", tools=[weather])
result = Runner.run_sync(agent, question)
usage = result.context_wrapper.usage
show("agents", result.final_output, {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens})
