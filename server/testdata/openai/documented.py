"""The documented calls of OpenAI's files, uploads and vector stores, with nothing changed but the environment."""
import asyncio
import hashlib
import io
import time

from openai import AsyncOpenAI, NotFoundError, OpenAI

client = OpenAI(max_retries=0)
HANDBOOK = b"# Returns\n\nA pump is sent back within thirty days. Pack it dry.\n"


def named(name, content):
    f = io.BytesIO(content)
    f.name = name
    return f


# Files.
file = client.files.create(file=named("handbook.md", HANDBOOK), purpose="assistants",
                           expires_after={"anchor": "created_at", "seconds": 2592000})
assert file.object == "file" and file.bytes == len(HANDBOOK) and file.expires_at - file.created_at == 2592000, file
assert client.files.retrieve(file.id).filename == "handbook.md"
assert client.files.content(file.id).read() == HANDBOOK
assert [f.id for f in client.files.list(purpose="assistants")] == [file.id]
assert client.files.wait_for_processing(file.id).status == "processed"

# Uploads.
data = b"# Cleaning\n\n" + b"Rinse the rotor with warm water every week.\n" * 50
upload = client.uploads.create(purpose="assistants", filename="cleaning.md", bytes=len(data), mime_type="text/markdown")
parts = [client.uploads.parts.create(upload_id=upload.id, data=data[at:at + 1000]) for at in range(0, len(data), 1000)]
done = client.uploads.complete(upload_id=upload.id, part_ids=[p.id for p in parts], md5=hashlib.md5(data).hexdigest())
assert done.status == "completed" and done.file.bytes == len(data), done
chunked = client.uploads.upload_file_chunked(file=data, filename="chunked.md", bytes=len(data),
                                             mime_type="text/markdown", purpose="assistants", part_size=500)
assert client.files.content(chunked.file.id).read() == data
cancelled = client.uploads.cancel(
    client.uploads.create(purpose="assistants", filename="x", bytes=1, mime_type="text/plain").id)
assert cancelled.status == "cancelled"

# Vector stores.
store = client.vector_stores.create(name="Support FAQ", metadata={"team": "support"},
                                    expires_after={"anchor": "last_active_at", "days": 7})
assert store.expires_after.days == 7 and store.status == "completed" and store.usage_bytes == 0, store
batch = client.vector_stores.file_batches.upload_and_poll(
    vector_store_id=store.id, files=[named("a.md", b"A valve is turned to the left."), ("b.md", b"Taxes are due in April.")],
    file_ids=[file.id], poll_interval_ms=100)
assert batch.status == "completed" and batch.file_counts.completed == 3 == batch.file_counts.total, batch
assert len(list(client.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id, limit=1))) == 3
one = client.vector_stores.files.create_and_poll(
    vector_store_id=store.id, file_id=done.file.id, poll_interval_ms=100, attributes={"region": "US", "year": 2026, "old": False},
    chunking_strategy={"type": "static", "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400}})
assert one.status == "completed" and one.last_error is None and one.attributes["year"] == 2026, one
assert one.chunking_strategy.static.max_chunk_size_tokens == 800
uploaded = client.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=named("c.md", b"Gloves are worn."))
assert uploaded.status == "completed"
changed = client.vector_stores.files.update(uploaded.id, vector_store_id=store.id, attributes={"region": "EU"})
assert changed.attributes == {"region": "EU"}
assert {f.id for f in client.vector_stores.files.list(store.id, filter="completed", order="asc")} >= {one.id, file.id}
text = client.vector_stores.files.content(uploaded.id, vector_store_id=store.id)
assert [c.text.strip() for c in text] == ["Gloves are worn."], text
results = client.vector_stores.search(
    vector_store_id=store.id, query="How do I send a pump back?", max_num_results=3, rewrite_query=True,
    ranking_options={"ranker": "auto", "score_threshold": 0.1})
first = results.data[0]
assert first.file_id == file.id and "thirty days" in first.content[0].text and 0.1 <= first.score <= 1, results
filtered = client.vector_stores.search(
    vector_store_id=store.id, query=["rotor", "gloves"],
    filters={"type": "or", "filters": [{"type": "eq", "key": "region", "value": "EU"},
                                       {"type": "in", "key": "region", "value": ["US", "CA"]}]})
assert {r.filename for r in filtered.data} == {"c.md", "cleaning.md"}, filtered
updated = client.vector_stores.update(vector_store_id=store.id, name="FAQ", expires_after=None)
assert updated.name == "FAQ" and updated.expires_after is None and updated.file_counts.total == 5, updated
assert store.id in [s.id for s in client.vector_stores.list(limit=1)]
assert client.vector_stores.files.delete(uploaded.id, vector_store_id=store.id).deleted
again = client.vector_stores.file_batches.create(vector_store_id=store.id, files=[{"file_id": uploaded.id,
                                                                                  "attributes": {"again": True}}])
assert client.vector_stores.file_batches.cancel(again.id, vector_store_id=store.id).status in ("cancelled", "completed")


async def concurrently():
    other = AsyncOpenAI(max_retries=0)
    found = await asyncio.gather(*(other.vector_stores.search(store.id, query="pump") for _ in range(5)))
    assert all(f.data for f in found)

asyncio.run(concurrently())
assert client.vector_stores.delete(store.id).deleted
assert client.files.delete(file.id).deleted
for gone in (lambda: client.files.retrieve(file.id), lambda: client.vector_stores.retrieve(store.id),
             lambda: client.beta.assistants.list()):
    try:
        gone()
        raise AssertionError("it is still there")
    except NotFoundError as e:
        assert e.type == "invalid_request_error", e.body
print("ok")
