"""LlamaIndex: a custom retriever over a vector store, as its documentation makes one."""
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from openai import OpenAI

client = OpenAI(max_retries=0)
store = client.vector_stores.create(name="llamaindex")
client.vector_stores.file_batches.upload_and_poll(
    vector_store_id=store.id, poll_interval_ms=100,
    files=[("pump.md", b"A pump is sent back within thirty days."), ("tax.md", b"Taxes are due in April.")])


class VectorStoreRetriever(BaseRetriever):
    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        found = client.vector_stores.search(store.id, query=query_bundle.query_str, max_num_results=1)
        return [NodeWithScore(node=TextNode(text=r.content[0].text, metadata={"file_name": r.filename}), score=r.score)
                for r in found.data]


nodes = VectorStoreRetriever().retrieve("How do I return a pump?")
assert [n.node.metadata["file_name"] for n in nodes] == ["pump.md"] and "thirty days" in nodes[0].text, nodes
print("ok")
