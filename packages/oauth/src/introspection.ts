import { createHash } from 'node:crypto';
import { assertKnown, type OptionNames } from '@countersign/options';
import { tokenIntrospection } from 'openid-client';
import { bound } from './bound.ts';
import { OAuthError } from './errors.ts';
import { reporting } from './events.ts';
import { parseJsonObject } from './json.ts';
import { type ClientOptions, clientOptions, oauthClient } from './oauth-client.ts';
import { assertText } from './options.ts';
import { remainingMs } from './remaining.ts';

export interface IntrospectorOptions extends ClientOptions {
  /** Who the tokens must be for (`aud`), one of these. */
  readonly audience: string | readonly string[];
  /** Space separated; a token must have all of them. */
  readonly scope?: string;
  /** How long an active token is taken at its word, never past its `exp`; default 10. 0 asks every time. */
  readonly maxCacheSeconds?: number;
  /** How long a token that is not active stays so; default 5. 0 asks every time. */
  readonly negativeCacheSeconds?: number;
  /** Active tokens remembered, and as many inactive ones; default 10,000. */
  readonly maxEntries?: number;
}

const names: OptionNames<IntrospectorOptions> = {
  ...clientOptions,
  audience: true,
  scope: true,
  maxCacheSeconds: true,
  negativeCacheSeconds: true,
  maxEntries: true,
};

/** What the authorization server says of a token (RFC 7662 §2.2), checked. */
export type Introspection =
  | {
      readonly active: true;
      readonly subject?: string;
      readonly clientId?: string;
      readonly scopes: readonly string[];
      /** Milliseconds since the epoch. */
      readonly expiresAtMs?: number;
      /** The whole answer. */
      readonly claims: Readonly<Record<string, unknown>>;
    }
  | {
      readonly active: false;
      readonly reason:
        | 'inactive'
        | 'expired'
        | 'not_yet_valid'
        | 'wrong_issuer'
        | 'wrong_audience'
        | 'insufficient_scope';
    };

export interface Introspector {
  /** @throws OAuthError when the server cannot be asked or does not answer as it must: the token is then not accepted. */
  readonly introspect: (token: string) => Promise<Introspection>;
}

interface Known {
  readonly claims: Readonly<Record<string, unknown>>;
  readonly untilMs: number;
}

const INACTIVE = { active: false, reason: 'inactive' } as const;
/** No token is longer, and none has other characters (RFC 6750 §2.1); asking would only carry them further. */
const TOKEN = /^(?=.{1,8192}$)[\w.~+/-]+=*$/;

/**
 * Asks the authorization server about tokens that say nothing themselves.
 * @throws TypeError naming the option that is wrong, or that there is not; OAuthError `ERR_OAUTH_INSECURE_URL`.
 */
export function introspector(options: IntrospectorOptions): Introspector {
  assertKnown(options, names);
  assertText(options, 'scope');
  const { maxCacheSeconds = 10, negativeCacheSeconds = 5 } = options;
  const maxEntries = bound(options, 'maxEntries', 10_000);
  const audiences = [options.audience ?? []].flat();
  if (audiences.length === 0 || audiences.some((one) => typeof one !== 'string' || one === '')) {
    throw new TypeError('audience must be this resource server, or a list of its names');
  }
  for (const [name, value] of Object.entries({ maxCacheSeconds, negativeCacheSeconds })) {
    if (!(Number.isFinite(value) && value >= 0)) {
      throw new TypeError(`${name} must be a number of seconds, 0 for never`);
    }
  }
  const wanted = options.scope?.split(' ').filter(Boolean) ?? [];
  const client = oauthClient(options);
  // Apart, so that a flood of made-up tokens does not push out the real ones.
  const active = new Map<string, Known>();
  const inactive = new Map<string, Known>();
  const longestMs = Math.max(maxCacheSeconds, negativeCacheSeconds) * 1000;
  const flights = new Map<string, Promise<Known['claims']>>();

  const recall = (id: string): Known['claims'] | undefined => {
    for (const cache of [active, inactive]) {
      const known = cache.get(id);
      if (known && remainingMs(known.untilMs, client.now(), longestMs) > 0) return known.claims;
      cache.delete(id);
    }
    return undefined;
  };

  const remember = (id: string, claims: Known['claims']) => {
    const isActive = claims['active'] === true;
    const cache = isActive ? active : inactive;
    const seconds = isActive ? maxCacheSeconds : negativeCacheSeconds;
    const expiresAtMs = millis(claims['exp']) ?? Number.POSITIVE_INFINITY;
    const untilMs = Math.min(client.now() + seconds * 1000, isActive ? expiresAtMs : Infinity);
    if (untilMs <= client.now()) return;
    cache.set(id, { claims, untilMs });
    const oldest = cache.size > maxEntries ? cache.keys().next().value : undefined;
    if (oldest !== undefined) cache.delete(oldest);
  };

  const ask = async (id: string, token: string): Promise<Known['claims']> => {
    try {
      const response = await client.ask({
        endpoint: 'introspection_endpoint',
        grantType: 'introspection',
        repeatable: () => true,
        ask: (configuration) => tokenIntrospection(configuration, token),
      });
      const what = 'the introspection response';
      const claims = await parseJsonObject(response, 'ERR_OAUTH_RESPONSE', what);
      if (typeof claims['active'] !== 'boolean') {
        const message = 'active in the introspection response is not a boolean';
        throw new OAuthError('ERR_OAUTH_RESPONSE', message, { status: 200 });
      }
      for (const name of ['exp', 'nbf']) {
        if (claims[name] !== undefined && millis(claims[name]) === undefined) {
          const message = `${name} in the introspection response is not a number`;
          throw new OAuthError('ERR_OAUTH_RESPONSE', message, { status: 200 });
        }
      }
      remember(id, claims);
      return claims;
    } finally {
      flights.delete(id);
    }
  };

  const judge = (claims: Known['claims']): Introspection => {
    if (claims['active'] !== true) return INACTIVE;
    const nowMs = client.now();
    const expiresAtMs = millis(claims['exp']);
    const refuse = (reason: Extract<Introspection, { active: false }>['reason']) =>
      ({ active: false, reason }) as const;
    if (expiresAtMs !== undefined && expiresAtMs <= nowMs) return refuse('expired');
    if ((millis(claims['nbf']) ?? 0) > nowMs + 5000) return refuse('not_yet_valid');
    if (claims['iss'] !== undefined && claims['iss'] !== client.issuer) {
      return refuse('wrong_issuer');
    }
    const given = [claims['aud'] ?? []].flat();
    if (!audiences.some((one) => given.includes(one))) return refuse('wrong_audience');
    const scopes = typeof claims['scope'] === 'string' ? claims['scope'].split(' ') : [];
    if (!wanted.every((one) => scopes.includes(one))) return refuse('insufficient_scope');
    return {
      active: true,
      scopes: scopes.filter(Boolean),
      // A copy: what is remembered is what the server said.
      claims: structuredClone(claims),
      ...(typeof claims['sub'] === 'string' ? { subject: claims['sub'] } : {}),
      ...(typeof claims['client_id'] === 'string' ? { clientId: claims['client_id'] } : {}),
      ...(expiresAtMs === undefined ? {} : { expiresAtMs }),
    };
  };

  return {
    introspect: async (token) => {
      if (typeof token !== 'string' || !TOKEN.test(token)) return INACTIVE;
      const id = createHash('sha256').update(token).digest('base64url');
      const known = recall(id);
      if (known) return judge(known);
      const flight = flights.get(id) ?? reporting(client, 'introspection', () => ask(id, token));
      flights.set(id, flight);
      return judge(await flight);
    },
  };
}

function millis(seconds: unknown): number | undefined {
  return typeof seconds === 'number' && Number.isFinite(seconds) ? seconds * 1000 : undefined;
}
