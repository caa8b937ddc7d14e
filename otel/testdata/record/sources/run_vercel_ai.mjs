// Vercel AI SDK: generateText with a tool, streamText, embed, an error. Version 5 reports by itself (ai.*); version 7 by
// @ai-sdk/otel, whose OpenTelemetry writes the semantic conventions and whose LegacyOpenTelemetry writes ai.*.
import { NodeSDK, tracing } from '@opentelemetry/sdk-node';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { createOpenAI } from '@ai-sdk/openai';
import * as ai from 'ai';
import { z } from 'zod';

const scenario = process.argv[2];
const sdk = new NodeSDK({
  spanProcessors: [new tracing.BatchSpanProcessor(new OTLPTraceExporter())],
  instrumentations: [],
});
sdk.start();
if (ai.registerTelemetry) {
  const otel = await import('@ai-sdk/otel');
  ai.registerTelemetry(scenario.startsWith('legacy-') ? new otel.LegacyOpenTelemetry() : new otel.OpenTelemetry());
}
const kind = scenario.replace('legacy-', '');
const expect = { tool_calls: [] };
const openai = createOpenAI({ baseURL: process.env.OPENAI_BASE_URL, apiKey: 'sk-recording' });
const telemetry = {
  isEnabled: true,
  functionId: 'answer-customer',
  metadata: { sessionId: 'session-7', userId: 'ann', tags: ['test'] },
};
const told = ai.registerTelemetry ? { telemetry } : { experimental_telemetry: telemetry };
const model = openai.chat(kind === 'tools' ? 'o4-mini' : 'gpt-4o-mini');

if (kind === 'tools' || kind === 'responses') {
  const { text } = await ai.generateText({
    model: kind === 'responses' ? openai('gpt-5') : model,
    system: 'You know the weather.',
    prompt: 'How is the weather in Paris?',
    stopWhen: ai.stepCountIs ? ai.stepCountIs(4) : ai.isStepCount(4),
    tools: {
      get_weather: ai.tool({
        description: 'Says the weather of a city.',
        inputSchema: z.object({ city: z.string() }),
        execute: async ({ city }) => {
          const result = `21 degrees and sunny in ${city}`;
          expect.tool_calls.push({ name: 'get_weather', arguments: { city }, result });
          return result;
        },
      }),
    },
    ...told,
  });
  console.log(text);
} else if (kind === 'stream') {
  const result = ai.streamText({ model, prompt: 'What is the capital of France?', ...told });
  for await (const piece of result.textStream) process.stdout.write(piece);
  console.log();
} else if (kind === 'embed') {
  const embedder = openai.embedding ? openai.embedding('text-embedding-3-small')
    : openai.textEmbeddingModel('text-embedding-3-small');
  await ai.embed({ model: embedder, value: 'Open from nine to five', ...told });
} else if (kind === 'error') {
  await ai.generateText({ model, prompt: 'Say a word. [[fail 400]]', maxRetries: 0, ...told })
    .catch((e) => console.log(e.name));
}
await sdk.shutdown();
console.log('EXPECT ' + JSON.stringify({ ...expect, session: 'session-7', user: 'ann', agents: [] }));
