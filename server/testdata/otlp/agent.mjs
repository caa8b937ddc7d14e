// An agent with the Vercel AI SDK and OpenTelemetry's SDK for Node, which sends where the environment says.
import { createOpenAI } from "@ai-sdk/openai";
import { OpenTelemetry } from "@ai-sdk/otel";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { NodeSDK } from "@opentelemetry/sdk-node";
import { generateText, registerTelemetry } from "ai";

const sdk = new NodeSDK({ traceExporter: new OTLPTraceExporter(), instrumentations: [] });
sdk.start();
registerTelemetry(new OpenTelemetry());
await generateText({
  model: createOpenAI().chat("gpt-5"),
  prompt: "May a pump be returned?",
  telemetry: { isEnabled: true },
});
await sdk.shutdown();
