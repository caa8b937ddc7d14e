// Receives webhooks, verifies each with the official library, and prints what it is, a JSON line each.
import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const webhook = new Webhook(process.env.SECRET);
createServer(async (request, response) => {
  let body = "";
  for await (const chunk of request) body += chunk;
  try {
    const payload = webhook.verify(body, request.headers);
    console.log(JSON.stringify({ id: request.headers["webhook-id"], payload }));
    response.writeHead(204).end();
  } catch {
    response.writeHead(400).end();
  }
}).listen(Number(process.env.PORT), "127.0.0.1");
