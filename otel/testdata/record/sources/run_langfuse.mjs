// Langfuse's JavaScript SDK: @langfuse/tracing with the span processor of @langfuse/otel.
import { NodeSDK } from '@opentelemetry/sdk-node';
import { LangfuseSpanProcessor } from '@langfuse/otel';
import * as lf from '@langfuse/tracing';

const processor = new LangfuseSpanProcessor();
const sdk = new NodeSDK({ spanProcessors: [processor], instrumentations: [] });
sdk.start();
const expect = { session: 'session-7', user: 'ann', agents: ['weather_agent'], guardrails: 1, retrievals: 1 };

const run = async (agent) => {
  const within = lf.propagateAttributes
    ? (f) => lf.propagateAttributes({ userId: 'ann', sessionId: 'session-7', tags: ['test'] }, f)
    : async (f) => { lf.updateActiveTrace({ userId: 'ann', sessionId: 'session-7' }); await f(); };
  await within(async () => {
    const child = (name, attributes, asType) => lf.startObservation(name, attributes, { asType });
    child('polite', { input: 'How is the weather?', output: { passed: true } }, 'guardrail').end();
    child('shop docs', { input: { query: 'weather' }, output: [{ id: 'hours', score: 0.9 }] }, 'retriever').end();
    child('answer', {
      model: 'o4-mini',
      modelParameters: { temperature: 0.2 },
      input: [{ role: 'user', content: 'How is the weather in Paris?' }],
      output: { role: 'assistant', content: 'It is 21 degrees in Paris.' },
      usageDetails: { input: 110, output: 21, total: 131, input_cached_tokens: 33, output_reasoning_tokens: 6 },
      costDetails: { input: 0.00011, output: 0.000084, total: 0.000194 },
    }, 'generation').end();
    child('get_weather', { input: { city: 'Paris' }, output: '21 degrees and sunny in Paris' }, 'tool').end();
    child('broken', { input: { a: 1 }, level: 'ERROR', statusMessage: 'the tool broke' }, 'tool').end();
    child('cache miss', { input: { key: 'weather' } }, 'event');
  });
  agent.update({ input: { question: 'How is the weather in Paris?' }, output: 'It is 21 degrees in Paris.' });
};
await lf.startActiveObservation('weather_agent', run, { asType: 'agent' });
await processor.forceFlush();
await sdk.shutdown();
expect.llm_calls = [{ model: 'o4-mini', input_tokens: 110, output_tokens: 21, cached_tokens: 33, reasoning_tokens: 6,
  prompt: 'How is the weather in Paris?', completion: 'It is 21 degrees in Paris.', cost_usd: 0.000194 }];
expect.tool_calls = [
  { name: 'get_weather', arguments: { city: 'Paris' }, result: '21 degrees and sunny in Paris' },
  { name: 'broken', arguments: { a: 1 }, error: 'the tool broke' },
];
console.log('EXPECT ' + JSON.stringify(expect));
