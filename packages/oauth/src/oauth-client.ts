import { assertKnown, type OptionNames } from '@countersign/options';
import {
  type Deadline,
  deadline,
  exponentialBackoff,
  parseRetryAfter,
  sleep,
} from '@countersign/retry';
import type { ClientAuth as Authenticate } from 'oauth4webapi';
import {
  type ClientAuth as Authentication,
  allowInsecureRequests,
  Configuration,
  customFetch,
} from 'openid-client';
import { answerTo, type Sending } from './answer.ts';
import {
  authorizationServer,
  type ServerMetadata,
  type ServerOptions,
  serverOptions,
} from './authorization-server.ts';
import { bound } from './bound.ts';
import { assertClosed, breakerOf } from './breaker.ts';
import type { ClientAuth } from './client-auth.ts';
import { type DpopKey, type DpopOption, dpopKey } from './dpop.ts';
import { OAuthError, type OAuthErrorCode } from './errors.ts';
import { requests, retries } from './events.ts';
import { inTime } from './in-time.ts';
import { assertClock } from './options.ts';
import { refusal } from './refusal.ts';
import { type TransportOptions, transport, transportOptions } from './transport.ts';

/** Who asks which authorization server, and how. */
export interface ClientOptions extends ServerOptions, TransportOptions {
  readonly clientId: string;
  readonly clientAuth: ClientAuth;
  /** Retries of a request that is safe to repeat; default 2. */
  readonly retries?: number;
  /** For one call, its retries and waits included; default 15,000. */
  readonly timeoutMs?: number;
  /** Milliseconds since the epoch; default `Date.now`. */
  readonly now?: () => number;
}

export const clientOptions: OptionNames<ClientOptions> = {
  ...serverOptions,
  ...transportOptions,
  clientId: true,
  clientAuth: true,
  retries: true,
  timeoutMs: true,
  now: true,
};

export type Endpoint = 'token_endpoint' | 'revocation_endpoint' | 'introspection_endpoint';

/** One kind of request: openid-client makes it, this package sends it and reads the answer. */
export interface Call {
  readonly endpoint: Endpoint;
  /** For events: the grant type, or what is done instead of a grant. */
  readonly grantType: string;
  /** What it sends works once: its answer is waited for until the call is over, however short an attempt is. */
  readonly worksOnce?: boolean;
  /** Whether it may be made again after this failure. */
  repeatable(error: OAuthError): boolean;
  ask(configuration: Configuration): Promise<unknown>;
}

export interface OAuthClient {
  /** The server's. */
  readonly issuer: string;
  readonly clientId: string;
  readonly clientAuth: ClientAuth;
  readonly dpop?: DpopKey;
  readonly timeoutMs: number;
  readonly maxRetries: number;
  readonly now: () => number;
  /** The server's. @throws OAuthError, `ERR_OAUTH_METADATA` when it does not come in time. */
  metadata(): Promise<ServerMetadata>;
  /** Names the credential, for keys of what it gets. @throws OAuthError `ERR_OAUTH_CREDENTIAL`, in time. */
  identity(): Promise<readonly [method: string, id: string]>;
  /** Ends the wait for what a call needs when the call would be over. @throws OAuthError with `code` */
  within<T>(work: Promise<T>, code: OAuthErrorCode, what: string): Promise<T>;
  /** Resolves with a response of status 200. @throws OAuthError */
  ask(call: Call): Promise<Response>;
}

/** A client for calls that are not sources. The same object is the same client: its metadata is fetched once. */
export interface ConfiguredClient extends ClientOptions {
  /** Bind tokens to a key (RFC 9449). */
  readonly dpop?: DpopOption;
}

const configured: OptionNames<ConfiguredClient> = { ...clientOptions, dpop: true };
const clients = new WeakMap<ConfiguredClient, OAuthClient>();

/** @throws TypeError naming the option that is wrong, or that there is not. */
export function clientFor(options: ConfiguredClient): OAuthClient {
  const known = clients.get(options);
  if (known) return known;
  assertKnown(options, configured);
  const client = oauthClient(options);
  clients.set(options, client);
  return client;
}

const backoff = exponentialBackoff({ baseMs: 200, capMs: 5000, jitter: 'full' });

/** @throws TypeError naming the option that is wrong. */
export function oauthClient(
  options: ClientOptions & { dpop?: DpopOption | undefined },
): OAuthClient {
  const { clientId, clientAuth, now = Date.now } = options;
  assertClock(now);
  const maxRetries = bound(options, 'retries', 2, 0);
  const timeoutMs = bound(options, 'timeoutMs', 15_000);
  if (typeof clientId !== 'string' || clientId === '') {
    throw new TypeError('clientId must be a non-empty string');
  }
  if (typeof clientAuth?.authenticator !== 'function') {
    throw new TypeError('clientAuth must be what clientSecretBasic() and its like return');
  }
  const send = transport(options, clientAuth.tls?.());
  const server = authorizationServer(options, send, now);
  const { issuer } = server;
  const dpop = options.dpop && dpopKey(options.dpop, now);
  /** For one attempt. Nothing outlives it: no credential, no proof, no nonce. */
  const configuration = (metadata: ServerMetadata, auth: Authenticate, sending: Sending) => {
    const mtls = clientAuth.tls !== undefined;
    const self = { use_mtls_endpoint_aliases: mtls };
    // Its type says nothing of promises; they are awaited.
    const attempt = new Configuration(metadata, clientId, self, auth as Authentication);
    attempt[customFetch] = sending[customFetch];
    // Every URL was checked when it came; how long to wait is decided here.
    allowInsecureRequests(attempt);
    attempt.timeout = 0;
    return attempt;
  };
  // The authorization server's nonce; resource servers have their own (RFC 9449 §8, §9).
  let nonce: string | undefined;

  const once = async (
    call: Call,
    signal: AbortSignal,
    given: string | undefined,
  ): Promise<Response> => {
    const metadata = await inTime(server.metadata(), signal, 'ERR_OAUTH_METADATA', 'the metadata');
    const url = endpointUrl(metadata, call.endpoint, clientAuth.tls !== undefined);
    // Everything that proves something is made for this attempt: assertion, proof, nonce.
    const prepared = clientAuth.authenticator(now);
    const auth = await inTime(prepared, signal, 'ERR_OAUTH_CREDENTIAL', 'the credential');
    const headers: Record<string, string> = dpop
      ? { dpop: await dpop.proof({ method: 'POST', url, nonce: given }) }
      : {};
    // Last: who is let through to probe must not fail on the way.
    const breaker = breakerOf(url);
    assertClosed(breaker, now());
    const startedAt = performance.now();
    let status = 0;
    // The end of the call tells nothing of an endpoint that was asked shortly before.
    const wasCut = () => signal.aborted && performance.now() - startedAt < timeoutMs / 2;
    try {
      const response = await answerTo(
        (sending) => call.ask(configuration(metadata, auth, sending)),
        (to, { headers: given, ...init }) =>
          send(to, { ...init, headers: { ...given, ...headers }, signal, patient: call.worksOnce }),
      );
      status = response.status;
      return response;
    } finally {
      const failed = status === 0 || status >= 500;
      if (!failed) breaker.succeeded();
      else if (status !== 0 || !wasCut()) breaker.failed(now());
      if (requests.hasSubscribers) {
        const durationMs = performance.now() - startedAt;
        const { grantType } = call;
        requests.publish({ issuer, clientId, grantType, status, durationMs });
      }
    }
  };

  const reportRetry = (
    { grantType }: Call,
    retry: number,
    waitMs: number,
    code: OAuthErrorCode,
    startedAt: number,
  ) => {
    if (!retries.hasSubscribers) return;
    const at = 'authorization-server';
    const durationMs = performance.now() - startedAt;
    retries.publish({ at, issuer, clientId, grantType, retry, waitMs, code, durationMs });
  };

  /** One attempt, and one more when all that was missing is the nonce it was answered with. */
  const attempt = async (call: Call, signal: AbortSignal, retry: number): Promise<Response> => {
    for (let nonceKnown = false; ; nonceKnown = true) {
      const startedAt = performance.now();
      const given = nonce;
      const response = await once(call, signal, given);
      nonce = response.headers.get('dpop-nonce') ?? nonce;
      if (response.status === 200) return response;
      const error = await refusal(
        response,
        parseRetryAfter(response.headers.get('retry-after'), now()),
      );
      if (error.error !== 'use_dpop_nonce') throw error;
      if (!dpop || nonce === given || nonceKnown) {
        throw new OAuthError(
          'ERR_OAUTH_DPOP',
          'the authorization server refuses its own DPoP nonce',
          { error: error.error, status: response.status },
        );
      }
      reportRetry(call, retry, 0, 'ERR_OAUTH_DPOP', startedAt);
    }
  };

  const askUntil = async (call: Call, limit: Deadline): Promise<Response> => {
    for (let retry = 1; ; retry += 1) {
      const startedAt = performance.now();
      try {
        return await attempt(call, limit.signal, retry);
      } catch (error) {
        const waitMs = pauseBefore(retry, error);
        const late = limit.signal.aborted || waitMs >= limit.remaining();
        if (late || retry > maxRetries || !call.repeatable(error as OAuthError)) throw error;
        reportRetry(call, retry, waitMs, (error as OAuthError).code, startedAt);
        await sleep(waitMs, limit.signal);
      }
    }
  };

  const within = async <T>(work: Promise<T>, code: OAuthErrorCode, what: string): Promise<T> => {
    const limit = deadline(timeoutMs);
    try {
      return await inTime(work, limit.signal, code, what);
    } finally {
      limit.dispose();
    }
  };

  return {
    issuer,
    clientId,
    clientAuth,
    timeoutMs,
    maxRetries,
    now,
    ...(dpop ? { dpop } : {}),
    within,
    metadata: () => within(server.metadata(), 'ERR_OAUTH_METADATA', 'the metadata'),
    identity: async () => [
      clientAuth.method,
      await within(clientAuth.identity(), 'ERR_OAUTH_CREDENTIAL', 'the credential'),
    ],
    ask: async (call) => {
      const limit = deadline(timeoutMs);
      try {
        return await askUntil(call, limit);
      } finally {
        limit.dispose();
      }
    },
  };
}

/** How long to wait before trying again; forever when another try would end the same way. */
function pauseBefore(retry: number, error: unknown): number {
  if (!(error instanceof OAuthError) || !TRANSIENT.has(error.code)) return Number.POSITIVE_INFINITY;
  return Math.max(error.retryAfterMs ?? 0, backoff(retry));
}

const TRANSIENT: ReadonlySet<string> = new Set([
  'ERR_OAUTH_NETWORK',
  'ERR_OAUTH_TIMEOUT',
  'ERR_OAUTH_UNAVAILABLE',
]);

function endpointUrl(metadata: ServerMetadata, endpoint: Endpoint, mtls: boolean): string {
  const url = (mtls ? metadata.mtls_endpoint_aliases?.[endpoint] : undefined) ?? metadata[endpoint];
  if (url === undefined) {
    throw new OAuthError('ERR_OAUTH_METADATA', `the authorization server has no ${endpoint}`);
  }
  return url;
}
