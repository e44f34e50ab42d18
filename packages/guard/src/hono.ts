import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Context, MiddlewareHandler } from 'hono';
import { matchedRoutes } from 'hono/route';
import { knownBody } from './body.ts';
import { replaceErrorPages } from './error-pages.ts';
import { reportHandlerFailure } from './events.ts';
import {
  type AdapterOptions,
  createGate,
  failureReply,
  forgetBody,
  statusOf,
  together,
} from './gate.ts';
import { type Fields, setFields } from './response-headers.ts';
import type { Guard, Reply } from './verdict.ts';

export type { AdapterOptions } from './gate.ts';

/** What `@hono/node-server` hands to Hono. */
interface NodeBindings {
  /** It reads no stream that was read before, unless the bytes are beside it. */
  readonly incoming: IncomingMessage & { rawBody?: Buffer };
  readonly outgoing: ServerResponse;
}

/**
 * Puts guards before whatever Hono (on `@hono/node-server`) runs after it; what they found out is `c.get('guard')`.
 *
 * Hono's own error answers become problems that say nothing but the status; what was thrown is reported on
 * `countersign:guard:handler-error`. What your own `onError` and `notFound` answer is left alone.
 * @throws TypeError when an option is out of range.
 */
export function hono<C>(
  guard: Guard<C>,
  options: AdapterOptions = {},
): MiddlewareHandler<{ Variables: { guard: C } }> {
  const gate = createGate(guard, options);
  return async (c, next) => {
    const { incoming, outgoing } = (c.env ?? {}) as NodeBindings;
    const verdict = await gate(incoming, outgoing, { route: routeOf(c) });
    if (!verdict.pass) {
      if (verdict.verbatim) insistOn(outgoing, verdict);
      return responseOf(verdict);
    }
    replaceErrorPages(outgoing, isServerPage);
    const body = await knownBody(incoming)?.catch(() => undefined);
    if (body) incoming.rawBody = body;
    c.set('guard', together(c.get('guard'), verdict.context));
    try {
      await next();
    } catch (error) {
      // Hono lets through what is no Error, past `onError` and its own log.
      report(c, error, false);
      return responseOf(failureReply(outgoing, 500, error), true);
    }
    if (c.error) report(c, c.error, true);
    if (await isHonoPage(c)) {
      c.res = responseOf(failureReply(outgoing, c.res.status, c.error), true);
    }
    return undefined;
  };
}

/** The pattern of the handler at the end; middleware matches every method. */
function routeOf(c: Context): string | undefined {
  return matchedRoutes(c).findLast(({ method }) => method !== 'ALL')?.path;
}

/** The headers of a refusal are on the response already. */
function responseOf({ status, headers, body }: Reply, withHeaders = false): Response {
  return new Response(body ?? null, {
    status,
    ...(withHeaders && {
      headers: headers.map(([name, value]): [string, string] => [name, value]),
    }),
  });
}

/**
 * Middleware in front of the guards rewrote this answer when it was sent first, and what was kept is what left. It may
 * put header fields on it again, as it does on any answer; whatever body it makes of it, this one is sent.
 */
function insistOn(res: ServerResponse, { status, body }: Reply): void {
  const { writeHead, end } = res;
  let sent = false;
  const send = (): void => {
    if (sent) return;
    sent = true;
    forgetBody(res);
    res.removeHeader('content-type');
    res.statusCode = status;
    end.call(res, body, 'utf8');
  };
  res.writeHead = ((...head: [status: number, reason?: string | Fields, fields?: Fields]) => {
    // node:http asks for the head itself when it gets the body.
    if (sent) return Reflect.apply(writeHead, res, head);
    const fields = head.find((part) => typeof part === 'object');
    if (fields) setFields(res, fields);
    return res;
  }) as ServerResponse['writeHead'];
  res.flushHeaders = send;
  res.write = () => {
    send();
    return true;
  };
  res.end = () => {
    send();
    return res;
  };
}

function report({ req }: Context, error: unknown, logged: boolean): void {
  const { method, path } = req;
  reportHandlerFailure({ method, path, status: statusOf(error), error }, logged);
}

/** What Hono answers when nobody told it otherwise: its own words, or those of the HTTPException that was thrown. */
async function isHonoPage(c: Context): Promise<boolean> {
  const { res, error } = c;
  if (!error && res.status !== 404) return false;
  if (!(res.headers.get('content-type') ?? 'text/plain').startsWith('text/plain')) return false;
  const own = error ? ['Internal Server Error', error.message] : ['404 Not Found'];
  return own.includes(await res.clone().text());
}

/** What `@hono/node-server` writes when the body of a response fails: the message of the error. */
function isServerPage(status: number, body: string): boolean {
  return status === 500 && body.startsWith('Error: ');
}
