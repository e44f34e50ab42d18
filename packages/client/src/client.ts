import { assertKnown, type OptionNames } from '@countersign/options';
import { acceptResponse, type ClientResponse, checkAcceptance, refusal } from './accept.ts';
import { type EncodedBody, encodeBody } from './body.ts';
import { type Ending, type Order, perform } from './call.ts';
import { ClientError } from './errors.ts';
import { announceCall } from './events.ts';
import { interrupted, queueFull } from './failure.ts';
import { policedFetch, type SendFetch } from './fetch.ts';
import { hasHeader } from './headers.ts';
import type { ClientOptions, RequestOptions } from './options.ts';
import { placeOrder } from './order.ts';
import { type OriginState, originStates } from './origin.ts';
import { bodyOf, entryOf, isRefusal, type Recovery } from './recovery.ts';
import { redirected } from './redirect.ts';
import { lowerCased, readSettings } from './settings.ts';
import type { JournalEntry, JournalStore } from './store.ts';
import { forget, journaled, writeAhead } from './write-ahead.ts';

export type { ClientResponse } from './accept.ts';

/** Calls one origin. */
export interface Client {
  /** @throws ClientError when it does not end with an acceptable response. */
  request<T = unknown>(
    method: string,
    path: string,
    options?: RequestOptions<T>,
  ): Promise<ClientResponse<T>>;
  get<T = unknown>(path: string, options?: RequestOptions<T>): Promise<ClientResponse<T>>;
  post<T = unknown>(path: string, options?: RequestOptions<T>): Promise<ClientResponse<T>>;
  put<T = unknown>(path: string, options?: RequestOptions<T>): Promise<ClientResponse<T>>;
  patch<T = unknown>(path: string, options?: RequestOptions<T>): Promise<ClientResponse<T>>;
  delete<T = unknown>(path: string, options?: RequestOptions<T>): Promise<ClientResponse<T>>;
  /**
   * undici's `fetch` with this client's policies, for libraries that want one. Relative URLs are resolved against the
   * origin; other origins are refused. The deadline ends with the response's headers, so that bodies can be streamed.
   */
  fetch(input: string | URL | Request, init?: RequestInit): Promise<Response>;
  /**
   * Finishes the calls that a crash has interrupted, each with the key it had. Call it when the process starts, and
   * from time to time where several share a journal.
   * @throws ClientError `ERR_CLIENT_JOURNAL` when there is no journal, or it cannot be used, unless something has been
   * finished before; `ERR_CLIENT_CLOSED`.
   */
  recover(): Promise<readonly Recovery[]>;
  /**
   * Waits for the calls that are under way, and until those that were given up are out of the journal; later calls fail
   * with `ERR_CLIENT_CLOSED`. Closes no journal.
   */
  close(): Promise<void>;
}

const knownOfCall: OptionNames<RequestOptions> = {
  json: true,
  body: true,
  headers: true,
  query: true,
  schema: true,
  as: true,
  idempotencyKey: true,
  signal: true,
  deadlineMs: true,
};

/** An entry that is being recovered stays claimed this much longer than the call may take. */
const CLAIM_MARGIN_MS = 5000;

/**
 * Creates a client for one origin. A call has one effect at most however often it is sent, ends in time, and keeps
 * within the origin's retry budget.
 * @throws TypeError when an option is not what it must be.
 */
export function createClient(options: ClientOptions): Client {
  const settings = readSettings(options);
  const stateOf = originStates(settings.policies);
  const home = stateOf(settings.origin);
  const { journal, maxRedirects } = settings;
  const ahead = journal && writeAhead(journal);
  const { maxResponseBytes, now } = settings.attempts;
  const { origin, deadlineMs } = settings;
  const fetchPolicy = { origin, maxRedirects, maxResponseBytes, deadlineMs };
  let closing: Promise<void> | undefined;
  let running = 0;
  let lastOneLeft = (): void => {};

  /** Runs an order through every policy; reports it, and names its key in what it throws. */
  async function run<R>(
    order: Order,
    finish: (ending: Ending, last: Order) => Promise<R>,
    entry?: JournalEntry,
  ): Promise<R> {
    const startedAt = performance.now();
    running += 1;
    try {
      if (closing) throw hasBeenClosed();
      const call = async (): Promise<R> => {
        const [ending, last] = await follow(order);
        const { attempts, answer } = ending;
        const result = await finish(ending, last);
        announceCall(order.identity, startedAt, { attempts, status: answer.status });
        return result;
      };
      return await (ahead && entry ? ahead.around(order, entry, call) : call());
    } catch (error) {
      if (!(error instanceof ClientError)) throw error;
      const { idempotencyKey } = order.identity;
      if (idempotencyKey !== undefined) Object.assign(error, { idempotencyKey });
      const { code, attempts = 0, status, stopped } = error;
      announceCall(order.identity, startedAt, {
        attempts,
        error: code,
        ...(status === undefined ? {} : { status }),
        ...(stopped === undefined ? {} : { stopped }),
      });
      throw error;
    } finally {
      order.deadline.dispose();
      running -= 1;
      if (running === 0) lastOneLeft();
    }
  }

  async function follow(order: Order): Promise<readonly [Ending, Order]> {
    let current = order;
    let attempts = 0;
    for (let redirects = 0; ; redirects += 1) {
      const state = stateOf(current.target.origin);
      const latest = current;
      const ended = await bounded(latest, state, () => perform(latest, state, settings.attempts));
      attempts += ended.attempts;
      const ending = { ...ended, attempts };
      const next =
        maxRedirects > 0 && !ended.answer.received
          ? redirected(latest, ending, state, settings.bareDispatch)
          : undefined;
      if (!next) return [ending, latest];
      if (redirects === maxRedirects) {
        const { status, headers } = ended.answer;
        const details = { status, headers, attempts };
        throw new ClientError('ERR_CLIENT_REDIRECT', 'there were too many redirects', details);
      }
      current = next;
    }
  }

  async function request<T>(
    method: string,
    path: string,
    requestOptions: RequestOptions<T> = {},
  ): Promise<ClientResponse<T>> {
    assertKnown(requestOptions, knownOfCall);
    const { json, body, headers, query, idempotencyKey, signal, deadlineMs } = requestOptions;
    checkAcceptance(requestOptions);
    const order = placeOrder(settings, {
      method: method.toUpperCase(),
      path: withQuery(path, query),
      body: encodeBody(json, body),
      headers,
      idempotencyKey,
      signal,
      deadlineMs,
    });
    return run(
      order,
      (ending, last) =>
        acceptResponse(
          ending,
          last,
          stateOf(last.target.origin),
          settings.attempts,
          requestOptions,
        ),
      entryFor(order, headers),
    );
  }

  /** What is written down of a call: nothing when it has no key, or there is no journal. */
  function entryFor(order: Order, given: RequestOptions['headers']): JournalEntry | undefined {
    const key = order.identity.idempotencyKey;
    if (!journal || key === undefined) return undefined;
    return entryOf(order, key, lowerCased(given), settings.keyLifetimeMs, now());
  }

  const sendFetch: SendFetch = (request, handler) => {
    const { method, path, headers, body, signal, newKey, deadlineMs } = request;
    const needsKey = settings.keys.methods.has(method) && !hasHeader(headers, 'idempotency-key');
    const order = placeOrder(settings, {
      method,
      path,
      body: bytesBody(body),
      headers,
      idempotencyKey: needsKey ? newKey : undefined,
      signal,
      deadlineMs,
    });
    return run(
      { ...order, receiver: handler },
      async (ending) => {
        if (ending.answer.received) return;
        throw await refusal(ending, home, settings.attempts.maxErrorBytes);
      },
      entryFor(order, headers),
    );
  };

  async function finish(store: JournalStore, entry: JournalEntry): Promise<Recovery> {
    const leftMs = Math.floor(entry.expiresAtMs - now());
    if (leftMs <= 0) return { status: 'expired', entry };
    try {
      const order = placeOrder(settings, {
        method: entry.method,
        path: entry.path,
        body: bytesBody(bodyOf(entry)),
        headers: entry.headers,
        idempotencyKey: entry.key,
        signal: undefined,
        // No attempt may reach the server after it has forgotten the key.
        deadlineMs: Math.min(settings.deadlineMs, leftMs),
      });
      const response = await run(order, (ending, last) =>
        acceptResponse(ending, last, home, settings.attempts, {}),
      );
      await forget(store, entry);
      return { status: 'completed', entry, response };
    } catch (reason) {
      const error = reason instanceof ClientError ? reason : unsendable(reason);
      if (!isRefusal(error)) return { status: 'pending', entry, error };
      await forget(store, entry);
      return { status: 'refused', entry, error };
    }
  }

  /** Calls that wait for their next attempt are under way, too: the agent alone would not know. */
  async function allDone(): Promise<void> {
    if (running > 0) {
      await new Promise<void>((resolve) => {
        lastOneLeft = resolve;
      });
    }
    await ahead?.idle();
  }

  return {
    request,
    get: (path, requestOptions) => request('GET', path, requestOptions),
    post: (path, requestOptions) => request('POST', path, requestOptions),
    put: (path, requestOptions) => request('PUT', path, requestOptions),
    patch: (path, requestOptions) => request('PATCH', path, requestOptions),
    delete: (path, requestOptions) => request('DELETE', path, requestOptions),
    fetch: (input, init) => policedFetch(fetchPolicy, sendFetch, input, init),
    async recover() {
      if (!journal) throw new ClientError('ERR_CLIENT_JOURNAL', 'the client has no journal');
      if (closing) throw hasBeenClosed();
      const recoveries: Recovery[] = [];
      const seen = new Set<string>();
      // What is claimed when nothing is sent any more would be kept from others for nothing.
      while (!closing) {
        const leaseMs = settings.deadlineMs + CLAIM_MARGIN_MS;
        const claim = (): ReturnType<typeof journal.claim> => journal.claim(origin, leaseMs);
        const entry = await journaled(claim).catch((error: unknown) => {
          // Of what has been finished the journal knows nothing more: this is where its results are.
          if (recoveries.length === 0) throw error;
        });
        // One that comes round again, because its lease is over, has had its turn.
        if (!entry || seen.has(entry.key)) break;
        seen.add(entry.key);
        recoveries.push(await finish(journal, entry));
      }
      return recoveries;
    },
    async close() {
      closing ??= allDone().then(settings.close);
      await closing;
    },
  };
}

function withQuery(path: string, query: RequestOptions['query']): string {
  if (query === undefined) return path;
  if (
    !(query instanceof URLSearchParams) &&
    (typeof query !== 'object' || Symbol.iterator in query)
  ) {
    throw new TypeError('query must be an object of names and values, or URLSearchParams');
  }
  const pairs =
    query instanceof URLSearchParams
      ? query
      : new URLSearchParams(
          Object.entries(query).map(([name, value]): [string, string] => [name, String(value)]),
        );
  const text = pairs.toString();
  return text === '' ? path : `${path}${path.includes('?') ? '&' : '?'}${text}`;
}

function bytesBody(payload: Uint8Array | undefined): EncodedBody {
  return { payload: payload ?? null, repeatable: true };
}

/** An entry that was written by other settings, or by somebody else. */
function unsendable(cause: unknown): ClientError {
  return new ClientError(
    'ERR_CLIENT_JOURNAL',
    'an entry cannot be sent',
    { attempts: 0 },
    { cause },
  );
}

function hasBeenClosed(): ClientError {
  return new ClientError('ERR_CLIENT_CLOSED', 'the client has been closed');
}

/** Runs the call when there is a place for it. */
async function bounded<R>(
  { deadline, signal }: Order,
  { bound, origin }: OriginState,
  run: () => Promise<R>,
): Promise<R> {
  if (!bound) return run();
  if (!bound.tryEnter()) {
    const turn = bound.enter(deadline.signal);
    if (!turn) throw queueFull(origin);
    await turn.catch((error: unknown) => {
      throw interrupted(error, signal, 0);
    });
  }
  try {
    return await run();
  } finally {
    bound.leave();
  }
}
