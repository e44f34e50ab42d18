import {
  type IncomingMessage,
  type OutgoingHttpHeaders,
  type ServerResponse,
  STATUS_CODES,
} from 'node:http';
import type { FastifyPluginCallback, FastifyReply, FastifyRequest } from 'fastify';
import { replaceErrorPages } from './error-pages.ts';
import { reportHandlerFailure } from './events.ts';
import {
  type AdapterOptions,
  createGate,
  type Gate,
  sendProblem,
  sendRefusal,
  statusOf,
  together,
} from './gate.ts';
import { heldResponse } from './held-response.ts';
import { pathOf } from './node-request.ts';
import { setFields } from './response-headers.ts';
import type { Guard, GuardContext, Reply, Verdict } from './verdict.ts';

export type { AdapterOptions } from './gate.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** What the guards found out. */
    guard: GuardContext;
  }
}

/**
 * A plugin that puts guards before every route of the instance it is registered on, and of those inside; what they
 * found out is `request.guard`. They run in `onRequest`, before the body is parsed; the parser still finds it.
 *
 * Fastify's own error answers, which tell what was thrown, become problems that say nothing but the status; what was
 * thrown is reported on `countersign:guard:handler-error`. What your own error handler sends is left alone.
 * @throws TypeError when an option is out of range.
 */
export function fastify<C>(guard: Guard<C>, options: AdapterOptions = {}): FastifyPluginCallback {
  const gate = createGate(guard, options);
  const thrown = new WeakMap<IncomingMessage, unknown>();
  const plugin: FastifyPluginCallback = (instance, _options, done) => {
    if (!instance.hasRequestDecorator('guard')) instance.decorateRequest('guard');
    instance.server.prependListener('request', (req: IncomingMessage, res: ServerResponse) => {
      guardEarlyAnswers(gate, req, res);
    });
    instance.addHook('onRequest', (request, reply, next) => {
      const { raw } = request;
      const proceed = (verdict: Verdict<C>): void => {
        replaceErrorPages(
          reply.raw,
          (status, body) => isFastifyPage(status, body) || isThrown(thrown.get(raw), body),
          (res, status) => sendProblem(res, status, thrown.get(raw)),
        );
        if (verdict.pass) {
          request.guard = together(request.guard, verdict.context) as GuardContext;
          heldResponse(reply.raw)?.awaitHandler();
          next();
          return;
        }
        try {
          refuse(reply, verdict);
        } catch (error) {
          // Another hook gave the response a header that cannot be sent.
          next(error as Error);
        }
      };
      const verdict = gate(raw, reply.raw, { route: request.routeOptions.url });
      if ('then' in verdict) void verdict.then(proceed);
      else proceed(verdict);
    });
    // Fastify parses and validates the body in between, and answers what does not please it.
    instance.addHook('preHandler', (_request, reply, next) => {
      heldResponse(reply.raw)?.reachHandler();
      next();
    });
    instance.addHook('onError', (request, _reply, error, next) => {
      thrown.set(request.raw, error);
      report(request, error);
      next();
    });
    done();
  };
  // The hooks are for whoever registers the plugin, not for a scope of its own.
  return Object.assign(plugin, { [Symbol.for('skip-override')]: true });
}

/**
 * Through Fastify, so that the hooks that see every response see this one; but `onSend` must not rewrite what it has
 * rewritten. What other hooks have put on the response (CORS, say) goes with it.
 */
function refuse(reply: FastifyReply, refusal: Reply): void {
  const { status, body, verbatim } = refusal;
  if (verbatim) {
    setFields(reply.raw, reply.getHeaders() as OutgoingHttpHeaders);
    reply.hijack();
    sendRefusal(reply.raw, refusal);
    return;
  }
  void reply.code(status).send(typeof body === 'string' ? Buffer.from(body) : body);
}

function report({ method, raw }: FastifyRequest, error: unknown): void {
  const path = pathOf(raw.url ?? '');
  reportHandlerFailure({ method, path, status: statusOf(error), error }, true);
}

/** What cannot be routed (a malformed URL, a parameter too long) is answered before any hook: the guards run then. */
function guardEarlyAnswers<C>(gate: Gate<C>, req: IncomingMessage, res: ServerResponse): void {
  replaceErrorPages(res, isEarlyPage, (_res, status) => {
    void Promise.resolve(gate(req, res)).then((verdict) => {
      if (verdict.pass) sendProblem(res, status);
      else sendRefusal(res, verdict);
    });
  });
}

/** Fastify sends what was thrown as it is when it is no Error. */
function isThrown(value: unknown, body: string): boolean {
  if (value === undefined || value instanceof Error) return false;
  return body === value || body === JSON.stringify(value);
}

/** `{ statusCode, code?, error, message }`: how Fastify answers for an error, and for a route there is not. */
interface FastifyPage {
  readonly code?: unknown;
  readonly message: string;
}

function fastifyPage(status: number, body: string): FastifyPage | undefined {
  if (!body.startsWith('{')) return undefined;
  try {
    const { statusCode, code, error, message, ...rest } = JSON.parse(body);
    const isPage =
      statusCode === status &&
      error === STATUS_CODES[status] &&
      typeof message === 'string' &&
      Object.keys(rest).length === 0;
    return isPage ? { code, message } : undefined;
  } catch {
    return undefined;
  }
}

function isFastifyPage(status: number, body: string): boolean {
  return fastifyPage(status, body) !== undefined;
}

function isEarlyPage(status: number, body: string): boolean {
  const { code, message } = fastifyPage(status, body) ?? {};
  return (
    code === 'FST_ERR_BAD_URL' ||
    code === 'FST_ERR_MAX_PARAM_LENGTH' ||
    message === 'Unexpected error from async constraint' ||
    (status === 503 && message === 'Service Unavailable')
  );
}
