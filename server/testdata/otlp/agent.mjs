// An agent with the Vercel AI SDK and OpenTelemetry's SDK for Node, which sends where the environment says.
import { createOpenAI } from "@ai-sdk/openai";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { NodeSDK } from "@opentelemetry/sdk-node";
import * as ai from "ai";

const sdk = new NodeSDK({ traceExporter: new OTLPTraceExporter() });
sdk.start();
if (ai.registerTelemetryIntegration) {
  const { OpenTelemetryIntegration } = await import("@ai-sdk/otel");
  ai.registerTelemetryIntegration(new OpenTelemetryIntegration());
}
const openai = createOpenAI();
await ai.generateText({
  model: openai.chat("gpt-5"),
  prompt: "May a pump be returned?",
  experimental_telemetry: { isEnabled: true },
  telemetry: { isEnabled: true },
});
await sdk.shutdown();
