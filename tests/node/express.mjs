// An app on Express: the raw body behind `express.raw`, verified by the svix library.

import express from 'express';
import { Webhook } from 'svix';
import { announce, bodyMaxBytes, host, judge, judgeRefusal, port } from './common.mjs';

const webhook = new Webhook(process.env.CLERK_WEBHOOK_SIGNING_SECRET);
const app = express();

// Only application/json is read: without that content type the body stays undefined and nothing verifies.
app.use(express.raw({ type: 'application/json', limit: bodyMaxBytes }));
app.use(async (request, response) => {
  const { status, body } = await judge(request.headers, () => webhook.verify(request.body, request.headers));
  response.status(status).json(body);
});
// Express tells an error handler from others by its four parameters.
app.use(async (error, request, response, _next) => {
  const { status, body } = await judgeRefusal(request.headers, error);
  response.status(status).json(body);
});

const server = app.listen(port, host, () => announce(server.address().port));
