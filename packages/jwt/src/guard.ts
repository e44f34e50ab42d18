import type { Guard, GuardRequest, HeaderEntry, Pass, Reply } from '@countersign/guard';
import type { Presentation } from './binding.ts';
import { type Challenge, wwwAuthenticate } from './challenge.ts';
import type { AccessTokenClaims, GenericClaims } from './claims.ts';
import { assertNoTokenIn, type Credentials, credentialsOf, isForm } from './credentials.ts';
import { assertFetchable } from './discovery.ts';
import type { DpopPolicy } from './dpop.ts';
import { JwtError, type JwtErrorCode } from './errors.ts';
import { requestRefused } from './events.ts';
import {
  type ProtectedResourceMetadata,
  protectedResourceMetadata,
  protectedResourceMetadataUrl,
} from './metadata.ts';
import { assertFunction, assertKnown } from './options.ts';
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
  /** Accept the `DPoP` scheme. The verifier needs its own `dpop` option, too. */
  readonly dpop?: {
    /**
     * How callers address this server: scheme, host, and the path that a proxy cuts off. Proofs must be for it. Not
     * taken from the request, where the caller may write what it likes.
     */
    readonly baseUrl: string;
  };
  /** The certificate of the caller's TLS connection, DER or PEM, for tokens bound to one (RFC 8705). Default: there is none. */
  readonly clientCertificate?: (request: GuardRequest) => Uint8Array | string | undefined;
}

/** The settled options. */
interface Settings {
  readonly scopes: readonly string[];
  readonly realm: string | undefined;
  readonly resourceMetadata: string | undefined;
  /** Without a slash at the end. */
  readonly baseUrl: string | undefined;
  readonly clientCertificate: JwtGuardOptions['clientCertificate'];
  /** `undefined` when the scheme is not accepted. */
  readonly dpop: DpopPolicy | undefined;
}

/**
 * Lets a request pass that brings an acceptable token in its `Authorization` header, and answers every other one with
 * the status and challenge of RFC 6750 §3 or RFC 9449 §7.1. Tokens in a query or in the body of a form are refused, even
 * beside a good one in the header (RFC 6750 §2). Only forms whose token was accepted are read.
 * @throws TypeError naming the option that is wrong
 */
export function jwtGuard<C extends GenericClaims = AccessTokenClaims>(
  verifier: JwtVerifier<C>,
  options: JwtGuardOptions = {},
): Guard<Principal<C>> {
  const settings = settle(verifier, options);

  function principal(claims: C): Principal<C> {
    const scopes = scopesOf(claims);
    if (!settings.scopes.every((scope) => scopes.includes(scope)))
      throw new JwtError('ERR_JWT_SCOPE', 'The token does not grant a needed scope', {
        member: 'scope',
      });
    return { claims, clientId: claims.client_id as C['client_id'], subject: claims.sub, scopes };
  }

  function pass(claims: C, headers: readonly HeaderEntry[]): Pass<Principal<C>> {
    const context = principal(claims);
    return headers.length === 0 ? { pass: true, context } : { pass: true, context, headers };
  }

  return (request) => {
    let scheme: Credentials['scheme'] | undefined;
    let nonce = NO_HEADERS;
    try {
      const credentials = credentialsOf(request);
      scheme = credentials?.scheme;
      if (credentials === undefined) return refuse(undefined, scheme, nonce, settings);
      // First of all: a clock that gives no time uses up no proof.
      nonce = nonceHeader(credentials.scheme, settings);
      const presentation = presentationOf(credentials, request, settings);
      const answer = verifier.verifyNow(credentials.token, presentation);
      if (!(answer instanceof Promise) && !isForm(request)) return pass(answer.claims, nonce);
      return Promise.resolve(answer)
        .then(async ({ claims }) => {
          if (isForm(request)) await assertNoTokenIn(request);
          return pass(claims, nonce);
        })
        .catch((error: unknown) => refuse(error, scheme, nonce, settings));
    } catch (error) {
      return refuse(error, scheme, nonce, settings);
    }
  };
}

/**
 * Answers requests for this API's metadata (RFC 9728 §3) at the well-known path; lets all others pass.
 * @throws TypeError naming the member that is wrong
 */
export function protectedResourceGuard(metadata: ProtectedResourceMetadata): Guard<undefined> {
  const body = JSON.stringify(protectedResourceMetadata(metadata));
  const { pathname } = new URL(protectedResourceMetadataUrl(metadata.resource));
  const headers: readonly HeaderEntry[] = [
    ['content-type', 'application/json'],
    ['cache-control', 'public, max-age=3600'],
  ];
  return ({ method, path }) =>
    path === pathname && (method === 'GET' || method === 'HEAD')
      ? { pass: false, status: 200, headers, body }
      : { pass: true, context: undefined };
}

function settle(verifier: Pick<JwtVerifier, 'dpop'>, options: JwtGuardOptions): Settings {
  assertKnown('guard option', options, [
    'scopes',
    'realm',
    'resourceMetadata',
    'dpop',
    'clientCertificate',
  ]);
  const { scopes = [], realm, resourceMetadata, clientCertificate } = options;
  if (!Array.isArray(scopes) || !scopes.every(isScopeToken))
    throw new TypeError('scopes must be scope tokens (RFC 6749 §3.3)');
  for (const [name, value] of Object.entries({ realm, resourceMetadata })) {
    if (value !== undefined && typeof value !== 'string')
      throw new TypeError(`${name} must be a string`);
  }
  assertFunction('clientCertificate', clientCertificate);
  const baseUrl = options.dpop && `${options.dpop.baseUrl}`.replace(/\/$/, '');
  if (baseUrl !== undefined) {
    assertFetchable('dpop.baseUrl', baseUrl, 'allowed');
    // The path would become part of it, and all requests would be alike to a proof.
    if (/[?#]/.test(baseUrl)) throw new TypeError('dpop.baseUrl must have no query or fragment');
    if (verifier.dpop === undefined)
      throw new TypeError('dpop needs a verifier that was made with the dpop option');
  }
  // Every request would be refused, and with a challenge for Bearer at that.
  if (baseUrl === undefined && verifier.dpop?.required)
    throw new TypeError('dpop.baseUrl is needed with a verifier that has dpop.required');
  const dpop = baseUrl === undefined ? undefined : verifier.dpop;
  return { scopes, realm, resourceMetadata, baseUrl, clientCertificate, dpop };
}

function isScopeToken(scope: unknown): boolean {
  return typeof scope === 'string' && /^[\x21\x23-\x5b\x5d-\x7e]+$/.test(scope);
}

function presentationOf(
  { scheme }: Credentials,
  request: GuardRequest,
  { baseUrl, clientCertificate }: Settings,
): Presentation | undefined {
  if (scheme === 'DPoP' && baseUrl === undefined)
    throw new JwtError('ERR_JWT_BOUND', 'The DPoP scheme is not accepted here');
  if (scheme === 'Bearer' && clientCertificate === undefined) return undefined;
  const { method, path, headers } = request;
  // Anything else would go on where the host of our own address ends: `.evil.example/orders`.
  if (scheme === 'DPoP' && !path.startsWith('/'))
    throw new JwtError('ERR_JWT_REQUEST', 'The target of the request is no path');
  return {
    clientCertificate: clientCertificate?.(request),
    ...(scheme === 'DPoP'
      ? { dpop: { proof: headers.all('dpop'), method, url: `${baseUrl}${path}` } }
      : {}),
  };
}

const NO_HEADERS: readonly HeaderEntry[] = [];

/** The nonce to use next (RFC 9449 §8.2, §9), on every answer to the DPoP scheme. */
function nonceHeader(scheme: Credentials['scheme'], { dpop }: Settings): readonly HeaderEntry[] {
  if (scheme !== 'DPoP' || dpop?.nonces === undefined) return NO_HEADERS;
  return [['dpop-nonce', dpop.nonces.issue()]];
}

/** Answers other than 401 `invalid_token`. */
const ANSWERS: { readonly [code in JwtErrorCode]?: readonly [status: number, error?: string] } = {
  ERR_JWT_REQUEST: [400, 'invalid_request'],
  ERR_JWT_SCOPE: [403, 'insufficient_scope'],
  ERR_JWT_DPOP_PROOF: [401, 'invalid_dpop_proof'],
  ERR_JWT_DPOP_REPLAYED: [401, 'invalid_dpop_proof'],
  ERR_JWT_DPOP_NONCE: [401, 'use_dpop_nonce'],
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

function refuse(
  error: unknown,
  scheme: Credentials['scheme'] | undefined,
  nonce: readonly HeaderEntry[],
  settings: Settings,
): Reply {
  if (error !== undefined && !(error instanceof JwtError)) throw error;
  const [status, code] = answerTo(error);
  if (requestRefused.hasSubscribers)
    requestRefused.publish({
      status,
      code: error?.code ?? 'ERR_JWT_REQUEST',
      message: error?.message ?? 'The request brings no token',
      ...(error?.member === undefined ? {} : { member: error.member }),
    });
  return {
    pass: false,
    status,
    headers: [
      ['content-type', 'application/problem+json'],
      ['cache-control', 'no-store'],
      ...nonce,
      ...(status === 503
        ? ([['retry-after', '5']] as const)
        : wwwAuthenticate(challenges(code, scheme, settings))),
    ],
    body: JSON.stringify({ type: 'about:blank', title: TITLES[status], status }),
  };
}

function answerTo(error: JwtError | undefined): readonly [status: number, error?: string] {
  // Nothing was wrong with what the request brought: it brought nothing (RFC 6750 §3.1).
  if (error === undefined) return [401];
  return ANSWERS[error.code] ?? [401, 'invalid_token'];
}

/** One for each scheme accepted here; the error goes to the scheme that was used. */
function challenges(
  error: string | undefined,
  scheme: Credentials['scheme'] | undefined,
  { scopes, realm, resourceMetadata, dpop }: Settings,
): readonly Challenge[] {
  const scope = error === undefined || error === 'insufficient_scope' ? scopes.join(' ') : '';
  const schemes: Credentials['scheme'][] = dpop ? ['DPoP'] : [];
  if (!dpop?.required) schemes.push('Bearer');
  const used = scheme && schemes.includes(scheme) ? scheme : schemes[0];
  return schemes.map((one) => ({
    scheme: one,
    parameters: {
      realm,
      error: one === used ? error : undefined,
      scope,
      algs: one === 'DPoP' ? dpop?.algorithms.join(' ') : undefined,
      resource_metadata: resourceMetadata,
    },
  }));
}
