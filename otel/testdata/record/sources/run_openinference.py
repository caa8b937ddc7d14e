"""OpenInference, as Phoenix reads it: openai, anthropic, LangChain, LlamaIndex, OpenAI Agents."""

import sys

import calls
import common

library, case = sys.argv[1].split("_")
traces, _ = common.tracing()

if library == "openai":
    from openinference.instrumentation import using_attributes
    from openinference.instrumentation.openai import OpenAIInstrumentor
    OpenAIInstrumentor().instrument(tracer_provider=traces)
    if case == "session":
        with using_attributes(session_id="session-7", user_id="ann", metadata={"shop": 7}, tags=["test"]):
            calls.openai("chat")
        common.EXPECT.update(session="session-7", user="ann")
    else:
        calls.openai(case)
elif library == "anthropic":
    from openinference.instrumentation.anthropic import AnthropicInstrumentor
    AnthropicInstrumentor().instrument(tracer_provider=traces)
    calls.anthropic(case)
elif library == "langchain":
    from openinference.instrumentation.langchain import LangChainInstrumentor
    LangChainInstrumentor().instrument(tracer_provider=traces)
    calls.langchain()
elif library == "both":
    # LangChain and the SDK under it both report each call.
    from openinference.instrumentation.langchain import LangChainInstrumentor
    from openinference.instrumentation.openai import OpenAIInstrumentor
    LangChainInstrumentor().instrument(tracer_provider=traces)
    OpenAIInstrumentor().instrument(tracer_provider=traces)
    calls.langchain()
elif library == "llamaindex":
    from openinference.instrumentation.llama_index import LlamaIndexInstrumentor
    LlamaIndexInstrumentor().instrument(tracer_provider=traces)
    calls.llama_index()
elif library == "agents":
    import agents_sdk
    from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor
    OpenAIAgentsInstrumentor().instrument(tracer_provider=traces)
    agents_sdk.run()
common.finish(traces)
