"""Plain calls of the vendors' SDKs, for each of the instrumentations that report them."""

import json

import common


def openai(case):
    from openai import OpenAI

    client = OpenAI(max_retries=0)
    system = {"role": "system", "content": "You answer in one sentence."}
    asked = {"role": "user", "content": "What is the capital of France?"}
    if case == "chat":
        client.chat.completions.create(model="gpt-4o-mini", messages=[system, asked], temperature=0.2, max_tokens=100)
    elif case == "stream":
        for _ in client.chat.completions.create(model="gpt-4o-mini", messages=[system, asked], stream=True,
                                                stream_options={"include_usage": True}):
            pass
    elif case == "stream-no-usage":
        for _ in client.chat.completions.create(model="gpt-4o-mini", messages=[system, asked], stream=True):
            pass
    elif case == "tools":
        messages = [system, {"role": "user", "content": "How is the weather in Paris?"}]
        first = client.chat.completions.create(model="o4-mini", messages=messages, tools=[common.WEATHER_TOOL])
        call = first.choices[0].message.tool_calls[0]
        messages.append(first.choices[0].message.model_dump(exclude_none=True, exclude={"annotations"}))
        result = common.get_weather(**json.loads(call.function.arguments))
        messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
        client.chat.completions.create(model="o4-mini", messages=messages, tools=[common.WEATHER_TOOL])
    elif case == "responses":
        tool = {"type": "function"} | common.WEATHER_TOOL["function"]
        client.responses.create(model="o4-mini", instructions="You answer in one sentence.", tools=[tool],
                                input="How is the weather in Paris?")
        for _ in client.responses.create(model="o4-mini", input="What is the capital of France?", stream=True):
            pass
    elif case == "embeddings":
        client.embeddings.create(model="text-embedding-3-small", input=["Open from nine", "to five"], dimensions=8)
    elif case == "error":
        for status in (429, 500):
            try:
                client.chat.completions.create(
                    model="gpt-4o-mini", messages=[{"role": "user", "content": f"Say a word. [[fail {status}]]"}])
            except Exception as e:
                print(type(e).__name__)


def anthropic(case):
    from anthropic import Anthropic

    client = Anthropic(max_retries=0)
    tool = {"name": "get_weather", "description": "Says the weather of a city.",
            "input_schema": common.WEATHER_TOOL["function"]["parameters"]}
    told = {"model": "claude-sonnet-4-5", "max_tokens": 200, "system": "You answer in one sentence."}
    if case == "tools":
        messages = [{"role": "user", "content": "How is the weather in Paris?"}]
        first = client.messages.create(messages=messages, tools=[tool], **told)
        use = next(b for b in first.content if b.type == "tool_use")
        messages += [{"role": "assistant", "content": [b.model_dump(exclude_none=True) for b in first.content]},
                     {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id,
                                                   "content": common.get_weather(**use.input)}]}]
        client.messages.create(messages=messages, tools=[tool], **told)
    elif case == "stream":
        with client.messages.stream(
                messages=[{"role": "user", "content": "What is the capital of France?"}], **told) as stream:
            for _ in stream:
                pass
    elif case == "error":
        try:
            client.messages.create(messages=[{"role": "user", "content": "Say a word. [[fail 529]]"}], **told)
        except Exception as e:
            print(type(e).__name__)


def langchain():
    """An agent with a tool and a retriever."""
    from langchain.agents import create_agent
    from langchain_core.documents import Document
    from langchain_core.tools import tool
    from langchain_core.vectorstores import InMemoryVectorStore
    from langchain_openai import ChatOpenAI, OpenAIEmbeddings

    store = InMemoryVectorStore(OpenAIEmbeddings(model="text-embedding-3-small", check_embedding_ctx_length=False))
    store.add_documents([Document("Open from nine to five.", id="hours", metadata={"source": "hours.txt"}),
                         Document("Orders ship in two days.", id="orders", metadata={"source": "orders.txt"})])
    retriever = store.as_retriever(search_kwargs={"k": 1})

    @tool
    def search_shop_docs(query: str) -> str:
        """Searches the shop's documents."""
        result = "\n".join(d.page_content for d in retriever.invoke(query))
        common.EXPECT["tool_calls"].append({"name": "search_shop_docs", "arguments": {"query": query},
                                            "result": result})
        common.EXPECT["retrievals"] += 1
        return result

    agent = create_agent(ChatOpenAI(model="gpt-4o-mini"), tools=[search_shop_docs],
                         system_prompt="You answer from the shop's documents.", name="shop_agent")
    out = agent.invoke({"messages": [{"role": "user", "content": "When is the shop open?"}]},
                       config={"metadata": {"session_id": "session-7", "user_id": "ann"}})
    print(out["messages"][-1].content)
    common.EXPECT.update(agents=["shop_agent"], session="session-7", user="ann")


def llama_index():
    """A query engine over two documents."""
    from llama_index.core import Document, Settings, VectorStoreIndex
    from llama_index.embeddings.openai import OpenAIEmbedding
    from llama_index.llms.openai import OpenAI

    Settings.llm = OpenAI(model="gpt-4o-mini")
    Settings.embed_model = OpenAIEmbedding(model="text-embedding-3-small")
    index = VectorStoreIndex.from_documents([
        Document(text="Open from nine to five.", doc_id="hours"),
        Document(text="Orders ship in two days.", doc_id="orders")])
    print(index.as_query_engine(similarity_top_k=1).query("When is the shop open?"))
    common.EXPECT["retrievals"] += 1
