// The documented calls of OpenAI's files, uploads and vector stores, with nothing changed but the environment.
import assert from "node:assert/strict";
import OpenAI, { NotFoundError, toFile } from "openai";

const client = new OpenAI({ maxRetries: 0 });
const handbook = "# Returns\n\nA pump is sent back within thirty days. Pack it dry.\n";

const file = await client.files.create({
  file: await toFile(Buffer.from(handbook), "handbook.md"), purpose: "assistants",
  expires_after: { anchor: "created_at", seconds: 3600 },
});
assert.equal(file.expires_at - file.created_at, 3600);
assert.equal((await client.files.retrieve(file.id)).filename, "handbook.md");
assert.equal(await (await client.files.content(file.id)).text(), handbook);
const listed = [];
for await (const f of client.files.list({ limit: 1 })) listed.push(f.id);
assert.deepEqual(listed, [file.id]);

const upload = await client.uploads.create({ purpose: "assistants", filename: "a.md", bytes: 12, mime_type: "text/markdown" });
const second = await client.uploads.parts.create(upload.id, { data: await toFile(Buffer.from("worn."), "blob") });
const first = await client.uploads.parts.create(upload.id, { data: await toFile(Buffer.from("Gloves "), "blob") });
const done = await client.uploads.complete(upload.id, { part_ids: [first.id, second.id] });
assert.equal(done.file.bytes, 12);

const store = await client.vectorStores.create({ name: "Support FAQ", file_ids: [done.file.id], metadata: { team: "support" } });
const batch = await client.vectorStores.fileBatches.uploadAndPoll(store.id, {
  files: [await toFile(Buffer.from("Taxes are due in April."), "tax.md")], fileIds: [file.id],
}, { pollIntervalMs: 100 });
assert.deepEqual([batch.status, batch.file_counts.completed], ["completed", 2]);
const tried = await client.vectorStores.files.createAndPoll(store.id, {
  file_id: done.file.id, attributes: { region: "EU", year: 2026, final: true },
  chunking_strategy: { type: "static", static: { max_chunk_size_tokens: 800, chunk_overlap_tokens: 400 } },
}, { pollIntervalMs: 100 });
assert.deepEqual([tried.status, tried.attributes.final], ["completed", true]);
await client.vectorStores.files.update(file.id, { vector_store_id: store.id, attributes: { region: "US" } });
const found = await client.vectorStores.search(store.id, {
  query: "How do I return a pump?", max_num_results: 5, filters: { type: "ne", key: "region", value: "EU" },
  ranking_options: { ranker: "none" },
});
assert.deepEqual([found.data[0].file_id, found.data[0].attributes.region], [file.id, "US"]);
assert.ok(found.data.every((r) => r.filename !== "a.md"));
const texts = [];
for await (const c of client.vectorStores.files.content(done.file.id, { vector_store_id: store.id })) texts.push(c.text.trim());
assert.deepEqual(texts, ["Gloves worn."]);
const ids = [];
for await (const f of client.vectorStores.files.list(store.id, { limit: 2, order: "asc" })) ids.push(f.id);
assert.equal(new Set(ids).size, 3);
assert.equal((await client.vectorStores.update(store.id, { name: "FAQ" })).file_counts.total, 3);
assert.ok((await client.vectorStores.files.delete(file.id, { vector_store_id: store.id })).deleted);
assert.ok((await client.vectorStores.delete(store.id)).deleted);
assert.ok((await client.files.delete(file.id)).deleted);
await assert.rejects(client.files.retrieve(file.id), NotFoundError);
console.log("ok");
