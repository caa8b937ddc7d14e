"""What the Python sources share: exporters, one tool, and the lines EXPECT."""

import json

EXPECT = {"tool_calls": [], "agents": [], "retrievals": 0, "session": None, "user": None}


def get_weather(city: str) -> str:
    """Says the weather of a city."""
    result = f"21 degrees and sunny in {city}"
    EXPECT["tool_calls"].append({"name": "get_weather", "arguments": {"city": city}, "result": result})
    return result


WEATHER_TOOL = {"type": "function", "function": {
    "name": "get_weather", "description": "Says the weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}


def tracing(logs=False, logs_only=False):
    """Sets the global providers, which export over OTLP/HTTP to OTEL_EXPORTER_OTLP_ENDPOINT."""
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    if not logs:
        return provider, None
    from opentelemetry._logs import set_logger_provider
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    log_provider = LoggerProvider()
    log_provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    set_logger_provider(log_provider)
    return provider, log_provider


def finish(*providers, **more):
    """Flushes the providers, and says what is true."""
    for p in providers:
        if p is not None:
            p.force_flush()
            p.shutdown()
    print("EXPECT " + json.dumps(EXPECT | more))
