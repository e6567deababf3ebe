// An app on Fastify: the body parsed by the framework and serialised again by Clerk's adapter before it is verified.

import { verifyWebhook } from '@clerk/fastify/webhooks';
import Fastify from 'fastify';
import { announce, bodyMaxBytes, host, judge, judgeRefusal, port } from './common.mjs';

const app = Fastify({ bodyLimit: bodyMaxBytes });

app.post('/*', async (request, reply) => {
  // `verifyWebhook` finds the secret in CLERK_WEBHOOK_SIGNING_SECRET by itself.
  const { status, body } = await judge(request.headers, () => verifyWebhook(request));
  return reply.code(status).send(body);
});
app.setErrorHandler(async (error, request, reply) => {
  const { status, body } = await judgeRefusal(request.headers, error);
  return reply.code(status).send(body);
});

await app.listen({ port, host });
announce(app.server.address().port);
