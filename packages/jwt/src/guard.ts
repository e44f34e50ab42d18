import type { Guard, HeaderEntry, Reply } from '@countersign/guard';
import { type Challenge, wwwAuthenticate } from './challenge.ts';
import type { AccessTokenClaims, GenericClaims } from './claims.ts';
import { type Credentials, credentialsOf } from './credentials.ts';
import { JwtError, type JwtErrorCode } from './errors.ts';
import { requestRefused } from './events.ts';
import { assertKnown } from './options.ts';
import { scopesOf } from './scopes.ts';
import type { JwtVerifier } from './verifier.ts';

/** Who is calling, from an accepted token. */
export interface Principal<C extends GenericClaims = AccessTokenClaims> {
  readonly claims: C;
  /** `client_id`; a string for certain under the profile `rfc9068`. */
  readonly clientId: C['client_id'];
  /** `sub` */
  readonly subject: string;
  readonly scopes: readonly string[];
}

export interface JwtGuardOptions {
  /** All of them are needed; a token without is answered 403 (RFC 6750 §3.1). */
  readonly scopes?: readonly string[];
  /** The protection space named in challenges. */
  readonly realm?: string;
  /** URL of this API's metadata (RFC 9728 §5.1), named in challenges. */
  readonly resourceMetadata?: string;
}

/**
 * Lets a request pass that brings an acceptable token in its `Authorization` header, and answers every other one with
 * the status and challenge of RFC 6750 §3. Tokens in a query are refused; a form's body is never looked at.
 */
export function jwtGuard<C extends GenericClaims = AccessTokenClaims>(
  verifier: JwtVerifier<C>,
  options: JwtGuardOptions = {},
): Guard<Principal<C>> {
  assertKnown('guard option', options, ['scopes', 'realm', 'resourceMetadata']);
  const needed = options.scopes ?? [];

  function principal(claims: C): Principal<C> {
    const scopes = scopesOf(claims);
    if (!needed.every((scope) => scopes.includes(scope)))
      throw new JwtError('ERR_JWT_SCOPE', 'The token does not grant a needed scope', {
        member: 'scope',
      });
    return { claims, clientId: claims.client_id as C['client_id'], subject: claims.sub, scopes };
  }

  return (request) => {
    let credentials: Credentials | undefined;
    try {
      credentials = credentialsOf(request);
      if (credentials === undefined) return refuse(undefined, options);
      const answer = verifier.verifyNow(credentials.token);
      if (!(answer instanceof Promise)) return { pass: true, context: principal(answer.claims) };
      return answer
        .then(({ claims }) => ({ pass: true as const, context: principal(claims) }))
        .catch((error: unknown) => refuse(error, options));
    } catch (error) {
      return refuse(error, options);
    }
  };
}

/** Statuses other than 401 `invalid_token`. */
const ANSWERS: { readonly [code in JwtErrorCode]?: readonly [status: number, error?: string] } = {
  ERR_JWT_REQUEST: [400, 'invalid_request'],
  ERR_JWT_SCOPE: [403, 'insufficient_scope'],
  ERR_JWT_KEYS_UNAVAILABLE: [503],
  ERR_JWT_DENYLIST_UNAVAILABLE: [503],
  ERR_JWT_REPLAY_STORE_UNAVAILABLE: [503],
  ERR_JWT_CLOCK: [503],
};

const TITLES: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
  503: 'Service Unavailable',
};

function refuse(error: unknown, options: JwtGuardOptions): Reply {
  if (error !== undefined && !(error instanceof JwtError)) throw error;
  const [status, code] =
    error === undefined ? [401] : (ANSWERS[error.code] ?? [401, 'invalid_token']);
  if (requestRefused.hasSubscribers)
    requestRefused.publish({
      status,
      code: error?.code ?? 'ERR_JWT_REQUEST',
      message: error?.message ?? 'The request brings no token',
    });
  return {
    pass: false,
    status,
    headers: [
      ['content-type', 'application/problem+json'],
      ['cache-control', 'no-store'],
      ...(status === 503 ? RETRY : wwwAuthenticate([challenge(code, options)])),
    ],
    body: JSON.stringify({ type: 'about:blank', title: TITLES[status], status }),
  };
}

const RETRY: readonly HeaderEntry[] = [['retry-after', '5']];

function challenge(error: string | undefined, options: JwtGuardOptions): Challenge {
  return {
    scheme: 'Bearer',
    parameters: {
      realm: options.realm,
      error,
      scope:
        error === 'insufficient_scope' || error === undefined
          ? options.scopes?.join(' ') || undefined
          : undefined,
      resource_metadata: options.resourceMetadata,
    },
  };
}
