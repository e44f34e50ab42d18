import { type IncomingMessage, ServerResponse } from 'node:http';
import { assertKnown, type OptionNames } from '@countersign/options';
import { awaitsInvitation } from './body.ts';
import { explanationOf, retold } from './chain.ts';
import { GuardError } from './errors.ts';
import { reportGuardFailure, reportHandlerFailure } from './events.ts';
import { hasBody, heldResponse, holdResponse } from './held-response.ts';
import { NodeRequest, pathOf } from './node-request.ts';
import { problem, refusalOf } from './problem.ts';
import { addHeaders } from './response-headers.ts';
import { assertSendable } from './sendable.ts';
import { trustOf } from './trusted-proxies.ts';
import { type Guard, isVerdict, type Pass, type Reply, type Verdict } from './verdict.ts';

/** What every adapter may be told. */
export interface AdapterOptions {
  /** The largest body a guard may read; a larger one is refused with 413. Default 1 MiB. */
  readonly maxBodyBytes?: number;
  /** How much of a response is held back until `settle` has seen all of it; a larger one is streamed. Default 1 MiB. */
  readonly maxSettleBytes?: number;
  /**
   * How long a handler whose caller went away has to make its response before `settle` is told that there is none;
   * where the adapter sees the handler end, that moment decides instead. Default 60 000 ms.
   */
  readonly abortGraceMs?: number;
  /**
   * Says that the handlers behind these guards stream their responses. A guard that cannot work with that is refused when
   * it is mounted, instead of the first response that streams. Default false.
   */
  readonly streams?: boolean;
  /** Addresses and CIDR ranges of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` count. Default none. */
  readonly trustedProxies?: readonly string[];
}

const known: OptionNames<AdapterOptions> = {
  maxBodyBytes: true,
  maxSettleBytes: true,
  abortGraceMs: true,
  streams: true,
  trustedProxies: true,
};

/** Where a framework has been with a request before its guards see it. */
export interface Arrival {
  /** The request target that the framework routes by. Default: as received. */
  readonly url?: string;
  readonly route?: string | undefined;
}

/** Runs a guard on a request of node:http, and has its response carry what the guard decided. */
export type Gate<C> = (
  req: IncomingMessage,
  res: ServerResponse,
  arrival?: Arrival,
) => Verdict<C> | Promise<Verdict<C>>;

/** An unread body up to this size is read off the connection, which then serves the next request. */
const drainedBytes = 64 * 1024;
/** How long a caller that is still sending may take to read its refusal before the connection is cut. */
const lingerMs = 500;

/**
 * @throws TypeError when an option is out of range or there is no such option, and when a guard cannot work with handlers that stream.
 */
export function createGate<C>(guard: Guard<C>, options: AdapterOptions = {}): Gate<C> {
  assertKnown(options, known);
  if (options.streams && guard.refusesStreams) {
    throw new TypeError(
      'streams: one of the guards has to see whole responses. Have it buffer them, or keep it off routes that stream',
    );
  }
  const rules = {
    maxBodyBytes: atLeastZero('maxBodyBytes', options.maxBodyBytes ?? 1024 * 1024),
    trusts: trustOf(options.trustedProxies ?? []),
  };
  const limits = {
    maxSettleBytes: atLeastZero('maxSettleBytes', options.maxSettleBytes ?? 1024 * 1024),
    abortGraceMs: atLeastZero('abortGraceMs', options.abortGraceMs ?? 60_000),
  };
  const apply = (given: Verdict<C>, req: IncomingMessage, res: ServerResponse): Verdict<C> => {
    const verdict = isVerdict(given) ? given : nonsense();
    const decided = valid(verdict.pass ? verdict : answered(verdict, req, res));
    const checked = hasPath(req) ? decided : misdirected(decided);
    addHeaders(res, checked.headers ?? []);
    if (verdict.pass && verdict.explain) explainBy(res, verdict);
    // Also when the verdict cannot be sent: whoever passed learns of the answer that is sent in its place.
    if (verdict.pass && verdict.settle) {
      holdResponse(res, verdict, limits);
    }
    if (!checked.pass) {
      // Also when its answer cannot be sent, a handler has done its work.
      if (!verdict.pass && verdict.handled) heldResponse(res)?.reachHandler();
      else heldResponse(res)?.refuse();
      closeUnread(req, res, checked.status);
    }
    return checked;
  };
  return (req, res, { url, route } = {}) => {
    if (!(res instanceof ServerResponse)) {
      throw new GuardError(
        'ERR_GUARD_UNSUPPORTED_SERVER',
        'guards run on HTTP/1.1 servers of node:http and node:https (for Hono: through @hono/node-server) only',
      );
    }
    const request = new NodeRequest(req, res, rules, url ?? req.url ?? '/', route);
    try {
      const verdict = guard(request, {});
      if ('then' in verdict) {
        return Promise.resolve(verdict).then(
          (late) => apply(late, req, res),
          (error: unknown) => apply(broken(error), req, res),
        );
      }
      return apply(verdict, req, res);
    } catch (error) {
      return apply(broken(error), req, res);
    }
  };
}

/** Answers with a refusal whose headers the gate has put on the response already. */
export function sendRefusal(res: ServerResponse, { status, body }: Reply): void {
  // While the guards were deciding, something in front of them (that times requests out, say) may have answered.
  if (res.writableEnded) return;
  res.statusCode = status;
  // Of an answer that failed it may be what node:http refuses to send.
  res.statusMessage = '';
  // A server may be told to throw at a body that would only be left out.
  res.end(hasBody(res) ? body : undefined);
}

/** Answers a request that failed behind the guards, saying nothing about why; cuts an answer that has begun. */
export function sendFailure(
  req: IncomingMessage,
  res: ServerResponse,
  status: number,
  error: unknown,
): void {
  reportHandlerFailure({ method: req.method ?? '', path: pathOf(req.url ?? ''), status, error });
  // A complete answer may still be on its way, and `settle` has seen it: it is what the caller gets.
  if (res.writableEnded) return;
  // With nobody there any more, those who hold the answer back still want to see it.
  if (res.headersSent || (res.destroyed && !heldResponse(res))) res.destroy();
  else sendProblem(res, status, error);
}

/** A handler that is mounted as a guard may have failed, behind chains that were mounted before this one. */
function answered(reply: Reply, req: IncomingMessage, res: ServerResponse): Reply {
  if (reply.handled?.error === undefined) return reply;
  const told = retold(reply, ({ status, error }) => failureReply(res, status, error));
  const { error } = reply.handled;
  const path = pathOf(req.url ?? '');
  reportHandlerFailure({ method: req.method ?? '', path, status: told.status, error });
  return told;
}

const explainersOf = Symbol('countersign.guard.explainers');
type Explained = ServerResponse & { [explainersOf]?: Explainer[] };
type Explainer = Pick<Pass<unknown>, 'explain'>;

function explainBy(res: Explained, explainer: Explainer): void {
  res[explainersOf] = [explainer, ...(res[explainersOf] ?? [])];
}

/** What a request that failed behind the guards is answered: what one of them says, or a problem that is the status and nothing else. */
export function failureReply(res: ServerResponse, status: number, error?: unknown): Reply {
  for (const explainer of (res as Explained)[explainersOf] ?? []) {
    try {
      const failure = { status, ...(error !== undefined && { error }) };
      const reply = explanationOf(explainer, failure);
      if (reply) return valid(reply);
    } catch (thrown) {
      reportGuardFailure({ guard: '', error: thrown });
    }
  }
  return problem({ status });
}

/** Takes back what had been said about a body that will not be sent. */
export function forgetBody(res: ServerResponse): void {
  for (const name of ['content-encoding', 'content-length', 'etag', 'last-modified', 'trailer']) {
    res.removeHeader(name);
  }
}

/** Answers a request that failed behind the guards. */
export function sendProblem(res: ServerResponse, status: number, error?: unknown): void {
  forgetBody(res);
  const reply = failureReply(res, status, error);
  for (const [name, value] of reply.headers) res.setHeader(name, value);
  sendRefusal(res, reply);
}

/** The status an error carries (as those of http-errors and Fastify do), or 500. */
export function statusOf(error: unknown): number {
  const { status, statusCode } = (error ?? {}) as { status?: unknown; statusCode?: unknown };
  const given = status ?? statusCode;
  if (typeof given !== 'number' || !Number.isInteger(given)) return 500;
  return given >= 400 && given <= 599 ? given : 500;
}

/** What several chains found out about one request, the later ones last. */
export function together<C>(earlier: unknown, found: C): C {
  if (typeof earlier !== 'object' || typeof found !== 'object') return found;
  return { ...earlier, ...found };
}

/** Who refuses a body must not leave it in the way of the next request, nor wait for all of it. */
function closeUnread(req: IncomingMessage, res: ServerResponse, status: number): void {
  if (req.complete || isBodiless(req)) return;
  const small = Number(req.headers['content-length']) <= drainedBytes;
  if (small && status !== 413 && !awaitsInvitation(req, res)) return;
  addHeaders(res, [['connection', 'close']]);
  const { socket } = req;
  if (!('destroySoon' in socket)) return;
  // Cutting the connection while the caller is sending could cost it the answer: a reset overtakes what was sent.
  socket.destroySoon = () => {
    req.resume();
    socket.end();
    setTimeout(() => socket.destroy(), lingerMs).unref();
  };
}

function isBodiless({ headers }: IncomingMessage): boolean {
  return headers['content-length'] === undefined && headers['transfer-encoding'] === undefined;
}

function broken(error: unknown): Reply {
  const refusal = refusalOf(error);
  if (refusal) return refusal;
  reportGuardFailure({ guard: '', error });
  return problem({ status: 500 });
}

function nonsense(): Reply {
  return broken(
    new GuardError('ERR_GUARD_INVALID_VERDICT', 'a guard must return a Pass or a Reply'),
  );
}

function valid<V extends Verdict<unknown>>(verdict: V): V | Reply {
  try {
    assertSendable(verdict);
    return verdict;
  } catch (error) {
    return broken(error);
  }
}

/**
 * `http:///a/b`, which RFC 9110 §4.2.1 has refused: to some routers its path is `/a/b`, to others, which take `a` for the
 * host, `/b`. Policies would look at the one while the handler of the other is reached.
 */
function hasPath({ url = '' }: IncomingMessage): boolean {
  return url.startsWith('/') || !/^[a-z][a-z0-9+.-]*:\/\/(?:[/?#\\]|$)/i.test(url);
}

function misdirected<C>(verdict: Verdict<C>): Verdict<C> {
  if (!verdict.pass) return verdict;
  const { headers, ...reply } = problem({ status: 400 });
  return { ...reply, headers: [...(verdict.headers ?? []), ...headers] };
}

function atLeastZero(option: string, value: number): number {
  if (Number.isSafeInteger(value) && value >= 0) return value;
  throw new TypeError(`${option}: expected an integer of 0 or more, got ${value}`);
}
