"""The OpenTelemetry project's own instrumentations beside openai-v2: openai-agents-v2 and google-genai."""

import os
import sys

case = sys.argv[1]
import common  # noqa: E402

traces, logs = common.tracing(logs=True)
if case == "agents":
    from opentelemetry.instrumentation.openai_agents import OpenAIAgentsInstrumentor
    OpenAIAgentsInstrumentor().instrument(tracer_provider=traces, logger_provider=logs)
    import agents_sdk
    agents_sdk.run()
else:
    from opentelemetry.instrumentation.google_genai import GoogleGenAiSdkInstrumentor
    GoogleGenAiSdkInstrumentor().instrument(tracer_provider=traces, logger_provider=logs)
    from google import genai
    from google.genai import types
    client = genai.Client(api_key="recording", http_options=types.HttpOptions(base_url=os.environ["UPSTREAM"]))

    def get_weather(city: str) -> str:
        """Says the weather of a city."""
        return common.get_weather(city)

    if case.startswith("google-tools"):
        config = types.GenerateContentConfig(system_instruction="You answer in one sentence.", tools=[get_weather],
                                             temperature=0.2)
        print(client.models.generate_content(model="gemini-2.5-flash", contents="How is the weather in Paris?",
                                             config=config).text)
    elif case == "google-stream":
        for c in client.models.generate_content_stream(model="gemini-2.5-flash",
                                                       contents="What is the capital of France?"):
            print(c.text)
    elif case == "google-error":
        try:
            client.models.generate_content(model="gemini-2.5-flash", contents="Say a word. [[fail 429]]")
        except Exception as e:
            print(type(e).__name__)
common.finish(traces, logs)
