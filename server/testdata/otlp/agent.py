"""An agent as its makers would write it: OpenAI's SDK with the OpenTelemetry project's instrumentation, which sends
where the environment says. OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_EXPORTER_OTLP_HEADERS are all that is set."""

import os

import openai
from opentelemetry import _logs, trace
from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

if os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"] == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
else:
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

traces, logs = TracerProvider(), LoggerProvider()
traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
trace.set_tracer_provider(traces)
_logs.set_logger_provider(logs)
OpenAIInstrumentor().instrument()

client = openai.OpenAI()
tracer = trace.get_tracer("shop")
with tracer.start_as_current_span("invoke_agent shop", attributes={"gen_ai.operation.name": "invoke_agent",
                                                                   "gen_ai.agent.name": "shop"}):
    for question in ("May a pump be returned?", "Within how many days?"):
        client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": question}])
    client.embeddings.create(model=os.environ.get("EMBEDDING_MODEL", "text-embedding-3-small"), input="pump")
traces.shutdown()
logs.shutdown()
