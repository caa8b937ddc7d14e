// Searches files through the gateway with the openai SDK: the only change is the base URL and the key.
import OpenAI from "openai";

const client = new OpenAI({ maxRetries: 0 });
const tool = {
  type: "file_search", vector_store_ids: [process.env.VECTOR_STORE], max_num_results: 2,
  filters: { type: "ne", key: "file", value: "hostile.txt" },
};
const input = "When is a pump sent back?";
const include = ["file_search_call.results"];
const show = (name, text, citations, queries, results, usage) =>
  console.log(JSON.stringify({ name, text, citations, queries, results, input: usage }));

function response(name, r) {
  const [search, message] = r.output;
  show(name, r.output_text, message.content[0].annotations.map((a) => [a.type, a.filename, a.index]), search.queries,
    search.results.map((x) => x.filename), r.usage.input_tokens);
}
response("responses", await client.responses.create({ model: "gpt-fake-5", input, tools: [tool], include }));

const stream = client.responses.stream({ model: "gpt-fake-5", input, tools: [tool], include });
let text = "";
for await (const event of stream) if (event.type === "response.output_text.delta") text += event.delta;
const final = await stream.finalResponse();
if (text !== final.output_text) throw new Error(`${text} is not ${final.output_text}`);
response("responses stream", final);

const chat = (name, content, annotations, usage) => show(name, content,
  annotations.map((a) => [a.type, a.file_citation.filename, a.file_citation.index]), null, null, usage.prompt_tokens);
const messages = [{ role: "user", content: input }];
const r = await client.chat.completions.create({ model: "gpt-fake-5", messages, tools: [tool] });
chat("chat", r.choices[0].message.content, r.choices[0].message.annotations, r.usage);

let content = "", annotations = [], usage;
for await (const chunk of await client.chat.completions.create({
  model: "gpt-fake-5", messages, tools: [tool], stream: true, stream_options: { include_usage: true },
})) {
  usage = chunk.usage ?? usage;
  content += chunk.choices[0]?.delta.content ?? "";
  annotations.push(...(chunk.choices[0]?.delta.annotations ?? []));
}
chat("chat stream", content, annotations, usage);

try {
  await client.responses.create({ model: "gpt-fake-5", input, tools: [{ ...tool, colour: "red" }] });
} catch (e) {
  show("error", `${e.constructor.name} ${e.code} ${e.param}`, []);
}
