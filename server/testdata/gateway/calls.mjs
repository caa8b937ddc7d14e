// Calls through the gateway with the SDKs for Node: the only change is the base URL and the key, from the environment.
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const show = (name, text, input = null, output = null) => console.log(JSON.stringify({ name, text, input, output }));
const question = "How long may a customer return a pump?";
const messages = [{ role: "user", content: question }];

const openai = new OpenAI({ maxRetries: 0, defaultHeaders: { "X-Konstruct-Conversation": "node" } });
let r = await openai.chat.completions.create({ model: "gpt-fake-5", messages });
show("chat", r.choices[0].message.content, r.usage.prompt_tokens, r.usage.completion_tokens);
let text = "";
let usage;
for await (const chunk of await openai.chat.completions.create({
  model: "gpt-fake-5", messages, stream: true, stream_options: { include_usage: true },
})) {
  usage = chunk.usage ?? usage;
  text += chunk.choices[0]?.delta?.content ?? "";
}
show("chat stream", text, usage.prompt_tokens, usage.completion_tokens);
r = await openai.responses.create({ model: "gpt-fake-5", input: question });
show("responses", r.output_text, r.usage.input_tokens, r.usage.output_tokens);
r = await openai.responses.stream({ model: "gpt-fake-5", input: question }).finalResponse();
show("responses stream", r.output_text, r.usage.input_tokens, r.usage.output_tokens);
try {
  await openai.chat.completions.create({ model: "llama", messages });
} catch (e) {
  show("error", `${e.constructor.name} ${e.code}`);
}

const anthropic = new Anthropic({ maxRetries: 0 });
const total = (u) => u.input_tokens + u.cache_read_input_tokens + u.cache_creation_input_tokens;
r = await anthropic.messages.create({ model: "claude-fake-5", max_tokens: 1024, messages });
show("messages", r.content[0].text, total(r.usage), r.usage.output_tokens);
r = await anthropic.messages.stream({ model: "claude-fake-5", max_tokens: 1024, messages }).finalMessage();
show("messages stream", r.content[0].text, total(r.usage), r.usage.output_tokens);
