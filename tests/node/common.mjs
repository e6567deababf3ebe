// What the three apps share: where to listen, failing on request, and the line printed for each request.
// It knows neither signatures nor secrets; an app hands in its own library's verification as a function.
//
// Environment: PORT (0, the default, takes any free one), CLERK_WEBHOOK_SIGNING_SECRET (read by the apps),
// FAIL_FIRST=n (the first n requests whose signature was right are answered 500 all the same).
// Standard output is for the test that started the app: `listening <port>`, then one JSON line a request.

export const port = Number(process.env.PORT ?? 0);
export const host = '127.0.0.1';
// Above the 350 KB that Svix lets a sender post; the frameworks' own defaults differ (Express: 100 KB).
export const bodyMaxBytes = 1024 * 1024;

let failuresLeft = Number(process.env.FAIL_FIRST ?? 0);

export function announce(boundPort) {
  console.log(`listening ${boundPort}`);
}

/**
 * Runs `verify` (which returns the event or throws), prints what came of it and says what to answer.
 * `ok` in the printed line is the verdict on the signature, `status` the answer given.
 */
export async function judge(headers, verify) {
  let event;
  let failure;
  try {
    event = await verify();
  } catch (error) {
    failure = error;
  }
  const status = failure ? 400 : failuresLeft > 0 ? 500 : 200;
  if (status === 500) failuresLeft -= 1;
  console.log(
    JSON.stringify({
      ok: !failure,
      status,
      error: failure ? String(failure.message ?? failure) : '',
      svix_id: headers['svix-id'] ?? '',
      svix_timestamp: headers['svix-timestamp'] ?? '',
      type: event?.type ?? '',
    }),
  );
  return { status, body: { ok: status === 200 } };
}

/** A body that the framework refused before the app saw it: judged like a wrong signature. */
export function judgeRefusal(headers, error) {
  return judge(headers, () => {
    throw error;
  });
}
