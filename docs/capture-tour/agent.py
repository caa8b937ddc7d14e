"""A support agent on the OpenAI Agents SDK. Two things make it land on the trail: its spans go where
OTEL_EXPORTER_OTLP_ENDPOINT says, and `konstruct mcp-proxy` stands before the command of its MCP server."""

import asyncio
import os
import sys
from pathlib import Path

from agents import Agent, OpenAIChatCompletionsModel, Runner, set_tracing_disabled
from agents.mcp import MCPServerStdio
from openai import AsyncOpenAI
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

HERE = Path(__file__).parent
set_tracing_disabled(True)  # the SDK's own traces go to OpenAI
spans = TracerProvider()
spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(spans)
OpenAIInstrumentor().instrument()


async def main(question):
    shop = MCPServerStdio(
        name="shop",
        params={"command": "konstruct",
                "args": ["mcp-proxy", "--server", "shop", "--rules", str(HERE / "rules.json"), "--",
                         sys.executable, str(HERE / "shop.py")],
                "env": dict(os.environ)},
        client_session_timeout_seconds=600)  # a person needs longer than the default of five seconds
    async with shop:
        agent = Agent(name="support", instructions="You help the customers of a shop.", mcp_servers=[shop],
                      model=OpenAIChatCompletionsModel("gpt-5-mini", AsyncOpenAI()))
        about = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "support"}
        with trace.get_tracer("support").start_as_current_span("invoke_agent support", attributes=about) as span:
            print(f"trace {span.get_span_context().trace_id:032x}", flush=True)
            print((await Runner.run(agent, question)).final_output)


asyncio.run(main(sys.argv[1]))
spans.shutdown()
