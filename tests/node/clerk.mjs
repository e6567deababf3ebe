// An app on plain Node: the body exactly as received, handed to Clerk's `verifyWebhook` as a Web Request.

import { createServer } from 'node:http';
import { verifyWebhook } from '@clerk/backend/webhooks';
import { announce, host, judge, port } from './common.mjs';

async function webRequest(incoming) {
  const chunks = [];
  for await (const chunk of incoming) chunks.push(chunk);
  const hasBody = incoming.method !== 'GET' && incoming.method !== 'HEAD';
  return new Request(`http://${host}${incoming.url}`, {
    method: incoming.method,
    headers: Object.entries(incoming.headersDistinct).flatMap(([name, values]) => values.map((value) => [name, value])),
    body: hasBody ? Buffer.concat(chunks) : undefined,
  });
}

const server = createServer(async (incoming, response) => {
  // `verifyWebhook` finds the secret in CLERK_WEBHOOK_SIGNING_SECRET by itself.
  const { status, body } = await judge(incoming.headers, async () => verifyWebhook(await webRequest(incoming)));
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
});
server.listen(port, host, () => announce(server.address().port));
