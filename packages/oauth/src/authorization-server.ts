import type { OptionNames } from '@countersign/options';
import { allowInsecureRequests, discovery, None, type ServerMetadata } from 'openid-client';
import { answerTo } from './answer.ts';
import { assertClosed, breakerOf } from './breaker.ts';
import { OAuthError } from './errors.ts';
import { parseJsonObject } from './json.ts';
import { remainingMs } from './remaining.ts';
import type { Transport } from './transport.ts';

/** Endpoints under the names of RFC 8414. Only those in use need to be there. */
export type { ServerMetadata };

/** Which authorization server, one of the two. */
export interface ServerOptions {
  /** The issuer identifier; endpoints are discovered (RFC 8414, else OpenID Connect) and must name exactly this issuer. */
  readonly issuer?: string;
  /** For servers without discovery. `issuer` inside it is required. */
  readonly server?: ServerMetadata;
  /** Permit http for 127.0.0.1, [::1] and localhost, for development and tests; default false. */
  readonly allowInsecureLoopback?: boolean;
}

export const serverOptions: OptionNames<ServerOptions> = {
  issuer: true,
  server: true,
  allowInsecureLoopback: true,
};

export interface Server {
  readonly issuer: string;
  /** Discovered at the first call, then kept for an hour; what is there stays in use while a refresh fails. */
  metadata(): Promise<ServerMetadata>;
}

const MAX_AGE_MS = 3_600_000;
/** What could not be refreshed is used this much longer before it is tried again. */
const STALE_MS = 60_000;

/** @throws TypeError, or OAuthError `ERR_OAUTH_INSECURE_URL` for an issuer without TLS. */
export function authorizationServer(
  options: ServerOptions,
  send: Transport,
  now: () => number,
): Server {
  const { allowInsecureLoopback = false } = options;
  if (typeof allowInsecureLoopback !== 'boolean') {
    throw new TypeError('allowInsecureLoopback must be true or false');
  }
  const issuer = options.server?.issuer ?? options.issuer;
  if (options.issuer !== undefined && options.issuer !== issuer) {
    throw new TypeError('issuer and server.issuer must be the same; one of them is enough');
  }
  if (typeof issuer !== 'string' || !URL.canParse(issuer)) {
    throw new TypeError('issuer must be the URL of an authorization server, or server.issuer');
  }
  assertSecure(issuer, 'issuer', allowInsecureLoopback);
  const check = (metadata: ServerMetadata) => checkEndpoints(metadata, allowInsecureLoopback);
  if (options.server) {
    const fixed = check(options.server);
    return { issuer, metadata: async () => fixed };
  }

  let known: { metadata: ServerMetadata; untilMs: number } | undefined;
  let flight: Promise<ServerMetadata> | undefined;
  const refresh = async (): Promise<ServerMetadata> => {
    try {
      const metadata = check(await guarded(issuer, now, () => discover(issuer, send)));
      known = { metadata, untilMs: now() + MAX_AGE_MS };
      return metadata;
    } catch (error) {
      if (!known) throw error;
      known = { ...known, untilMs: now() + STALE_MS };
      return known.metadata;
    } finally {
      flight = undefined;
    }
  };
  return {
    issuer,
    metadata: async () => {
      if (known && remainingMs(known.untilMs, now(), MAX_AGE_MS) > 0) return known.metadata;
      flight ??= refresh();
      return flight;
    },
  };
}

/** Discovery fails like any endpoint, and is left alone like any endpoint. */
async function guarded<T>(issuer: string, now: () => number, work: () => Promise<T>): Promise<T> {
  const breaker = breakerOf(issuer);
  assertClosed(breaker, now());
  try {
    const result = await work();
    breaker.succeeded();
    return result;
  } catch (error) {
    breaker.failed(now());
    throw error;
  }
}

/** Metadata is public: discovery names a client and does not use it. */
const NOBODY = 'discovery';

async function discover(issuer: string, send: Transport): Promise<ServerMetadata> {
  // assertSecure decides on http, for every URL; the library need not.
  const execute = [allowInsecureRequests];
  const ask = (algorithm: 'oauth2' | 'oidc') =>
    answerTo(
      (sending) =>
        discovery(new URL(issuer), NOBODY, undefined, None(), { algorithm, execute, ...sending }),
      send,
    );
  let response = await ask('oauth2');
  if (response.status === 404) response = await ask('oidc');
  if (response.status !== 200) {
    const { status } = response;
    const code = status >= 500 || status === 429 ? 'ERR_OAUTH_UNAVAILABLE' : 'ERR_OAUTH_METADATA';
    throw new OAuthError(code, `discovery was answered with status ${status}`, { status });
  }
  const metadata = await parseJsonObject(response, 'ERR_OAUTH_METADATA', 'the metadata');
  // Identical, character by character (RFC 8414 §3.3), or one issuer could answer for another.
  if (metadata['issuer'] !== issuer) {
    throw new OAuthError('ERR_OAUTH_METADATA', 'the metadata names another issuer');
  }
  return metadata as unknown as ServerMetadata;
}

function checkEndpoints(metadata: ServerMetadata, allowLoopback: boolean): ServerMetadata {
  for (const [name, value] of [
    ...Object.entries(metadata),
    ...Object.entries(metadata.mtls_endpoint_aliases ?? {}),
  ]) {
    if (!name.endsWith('_endpoint') || value === undefined) continue;
    if (typeof value !== 'string' || !URL.canParse(value)) {
      throw new OAuthError('ERR_OAUTH_METADATA', `${name} is not a URL`);
    }
    assertSecure(value, name, allowLoopback);
  }
  return metadata;
}

function assertSecure(url: string, name: string, allowLoopback: boolean): void {
  if (isSecureUrl(url, allowLoopback)) return;
  const message = `${name} must be an https URL (http is for loopback, with allowInsecureLoopback)`;
  throw new OAuthError('ERR_OAUTH_INSECURE_URL', message);
}

export function isSecureUrl(url: string, allowLoopback: boolean): boolean {
  const { protocol, hostname } = new URL(url);
  return (
    protocol === 'https:' || (protocol === 'http:' && allowLoopback && LOOPBACK.test(hostname))
  );
}

const LOOPBACK = /^(127\.\d+\.\d+\.\d+|\[::1\]|localhost)$/;
