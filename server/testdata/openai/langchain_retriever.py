"""LangChain: a retriever over a vector store, as its documentation makes one of a search service."""
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from openai import OpenAI

client = OpenAI(max_retries=0)
store = client.vector_stores.create(name="langchain")
client.vector_stores.file_batches.upload_and_poll(
    vector_store_id=store.id, poll_interval_ms=100,
    files=[("pump.md", b"A pump is sent back within thirty days."), ("tax.md", b"Taxes are due in April.")])


class VectorStoreRetriever(BaseRetriever):
    store: str
    k: int = 1

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        found = client.vector_stores.search(self.store, query=query, max_num_results=self.k)
        return [Document(page_content=r.content[0].text, metadata={"source": r.filename, "score": r.score, **r.attributes})
                for r in found.data]


retriever = VectorStoreRetriever(store=store.id)
documents = retriever.invoke("How do I return a pump?")
assert [d.metadata["source"] for d in documents] == ["pump.md"], documents
chain = ({"context": retriever | (lambda docs: "\n".join(d.page_content for d in docs)), "question": RunnablePassthrough()}
         | ChatPromptTemplate.from_template("{context}\n\n{question}") | RunnableLambda(lambda p: p.to_string())
         | StrOutputParser())
assert "thirty days" in chain.invoke("How do I return a pump?")
print("ok")
