import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { invite } from './body.ts';
import { type AdapterOptions, createGate, sendFailure, sendRefusal } from './gate.ts';
import { heldResponse } from './held-response.ts';
import type { Guard, Verdict } from './verdict.ts';

export { clientError } from './client-error.ts';
export type { AdapterOptions } from './gate.ts';

/** Answers a request that the guards let pass. `context` is what they found out. */
export type Handler<C> = (
  req: IncomingMessage,
  res: ServerResponse,
  context: C,
) => void | Promise<void>;

/**
 * Puts guards before a handler of `node:http` or `node:https` (HTTP/1.1). A handler that throws, or rejects, before it
 * has begun its answer is answered for with a 500 that says nothing; what it threw is reported on
 * `countersign:guard:handler-error`.
 *
 * Mounted on a server's `checkContinue` event as well, it asks for a body (`Expect: 100-continue`) only when a guard
 * reads it or the handler's turn has come.
 * @throws TypeError when an option is out of range.
 */
export function node<C>(
  guard: Guard<C>,
  handler: Handler<C>,
  options: AdapterOptions = {},
): RequestListener {
  const gate = createGate(guard, options);
  const proceed = (verdict: Verdict<C>, req: IncomingMessage, res: ServerResponse): void => {
    if (!verdict.pass) {
      sendRefusal(res, verdict);
      return;
    }
    invite(req, res);
    try {
      const answering = handler(req, res, verdict.context);
      // Without types, `(req, res) => res.end()` returns the response.
      if (typeof answering?.then !== 'function') return;
      heldResponse(res)?.producedBy(answering);
      answering.then(undefined, (error: unknown) => fail(error, req, res));
    } catch (error) {
      fail(error, req, res);
    }
  };
  return (req, res) => {
    const verdict = gate(req, res);
    if ('then' in verdict) void verdict.then((late) => proceed(late, req, res));
    else proceed(verdict, req, res);
  };
}

function fail(error: unknown, req: IncomingMessage, res: ServerResponse): void {
  sendFailure(req, res, 500, error);
}
