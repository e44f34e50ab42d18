import type { Guard, GuardRequest, HeaderEntry, Reply } from '@countersign/guard';
import { assertKnown, type OptionNames } from '@countersign/options';
import type { ApiKeys } from './api-keys.ts';
import { ApiKeysError } from './errors.ts';
import { publish } from './events.ts';
import type { LeakReceiver } from './leak-receiver.ts';
import { assertFunction } from './options.ts';
import type { KeyRecord } from './record.ts';
import { isGrantableScope } from './scope.ts';
import type { VerifyResult } from './verify.ts';

export interface ApiKeyGuardOptions<In = object> {
  /** All required. Default: none. */
  readonly scopes?: readonly string[];
  /** What the request acts on, for keys that are limited to resources. */
  readonly resource?: (request: GuardRequest, context: In) => string;
  /** `Authorization` schemes that carry a key. Default `['ApiKey']`; `['ApiKey', 'Bearer']` also takes Bearer. */
  readonly schemes?: readonly ('ApiKey' | 'Bearer')[];
  /** A header of your own that carries the bare key, `X-API-Key` for instance. Default: none. */
  readonly header?: string;
  /** The realm named in `WWW-Authenticate`. Default `api`. */
  readonly realm?: string;
  /** From so many days before a key expires, answers carry `API-Key-Sunset`. Default 14; 0 turns it off. */
  readonly warnWithinDays?: number;
  /** The time in ms since 1970. Default `Date.now`. */
  readonly now?: () => number;
}

/** Who calls. */
export interface ApiKeyContext {
  readonly id: string;
  readonly owner: string;
  readonly environment: string;
  readonly scopes: readonly string[];
  readonly record: KeyRecord;
}

const KNOWN: OptionNames<ApiKeyGuardOptions> = {
  scopes: true,
  resource: true,
  schemes: true,
  header: true,
  realm: true,
  warnWithinDays: true,
  now: true,
};
const DAY_MS = 86_400_000;
const REALM = /^[\x20\x21\x23-\x5B\x5D-\x7E]{1,100}$/;
const FIELD_NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

/**
 * Lets a request pass that carries one valid key in its `Authorization` header. A key in the URL is refused even
 * when valid, and reported on `countersign:api-keys:exposed`.
 * @throws TypeError for options that cannot work.
 */
export function apiKeyGuard<In = object>(
  keys: ApiKeys,
  options: ApiKeyGuardOptions<In> = {},
): Guard<ApiKeyContext, In> {
  if (typeof keys?.verify !== 'function') throw new TypeError('keys must be made by createApiKeys');
  assertKnown(options, KNOWN);
  const { scopes, resource, header, now = Date.now, warnWithinDays = 14 } = options;
  const schemes = options.schemes ?? ['ApiKey'];
  const challenge = challenges(schemes, options.realm ?? 'api');
  if (scopes !== undefined && !(Array.isArray(scopes) && scopes.every(isGrantableScope)))
    throw new TypeError('scopes must be a list of scopes that a key can be given');
  if (resource !== undefined) assertFunction('resource', resource);
  if (
    header !== undefined &&
    !(FIELD_NAME.test(header) && header.toLowerCase() !== 'authorization')
  )
    throw new TypeError(
      'header must be a field name other than Authorization, whose keys follow one of schemes',
    );
  if (!(warnWithinDays >= 0))
    throw new TypeError('warnWithinDays must be a number of days, 0 or more');
  assertFunction('now', now);
  const warnMs = warnWithinDays * DAY_MS;
  if (schemes.length === 0 && header === undefined)
    throw new TypeError('schemes must not be empty without a header');

  return async (request, context) => {
    const exposed = keyInUrl(keys, request);
    if (exposed) {
      await report(keys, exposed, request.remoteAddress);
      return unauthorized(
        challenge(),
        'The key must be sent in a header, never in the URL. Rotate it.',
      );
    }
    const presented = credentials(request, schemes, header);
    if (presented === undefined) return unauthorized(challenge(), 'An API key is required.');
    if (presented === 'ambiguous')
      return unauthorized(challenge('invalid_request'), 'Send one API key, once.');
    const result = await keys.verify(presented.key, {
      ip: request.remoteAddress,
      ...(scopes && { scopes }),
      ...(resource && { resource: resource(request, context) }),
    });
    if (result.status !== 'valid') return refusal(result, challenge, scopes);
    return {
      pass: true,
      context: contextOf(result.record),
      headers: notices(result.record, now(), warnMs),
    };
  };
}

/**
 * Answers every request itself, as a report of leaked keys: 200 with the feedback, 401 for a bad signature, 400 for
 * a bad report, 503 when it has to be sent again. Mount it on a route of its own, for `POST`. What the adapter says of a
 * body that it does not take (413 for instance) is passed on.
 */
export function leakReportGuard(receiver: LeakReceiver): Guard<never> {
  return async (request) => {
    const body = await request.rawBody();
    try {
      const feedback = await receiver.receive(body, request.headers);
      return {
        pass: false,
        status: 200,
        headers: [['Content-Type', 'application/json']],
        body: JSON.stringify(feedback),
      };
    } catch (error) {
      return reportProblem(error);
    }
  };
}

function reportProblem(error: unknown): Reply {
  const code = error instanceof ApiKeysError ? error.code : undefined;
  if (code === 'ERR_API_KEYS_REPORT_SIGNATURE') {
    return problem(401, 'Unauthorized', 'The report is not signed by a key that counts.', []);
  }
  if (code === 'ERR_API_KEYS_REPORT_MALFORMED') {
    return problem(400, 'Bad Request', 'The report cannot be read.', []);
  }
  publish('store-error', () => ({ operation: 'leak-report', error }));
  return problem(503, 'Service Unavailable', 'Send the report again.', [['Retry-After', '30']]);
}

type Challenge = (error?: string, scopes?: readonly string[]) => readonly HeaderEntry[];

function challenges(schemes: readonly string[], realm: string): Challenge {
  if (!REALM.test(realm)) throw new TypeError('realm must be printable ASCII without quotes');
  for (const scheme of schemes) {
    if (scheme !== 'ApiKey' && scheme !== 'Bearer')
      throw new TypeError('schemes must be ApiKey or Bearer');
  }
  const named = schemes.length > 0 ? schemes : ['ApiKey'];
  return (error, scopes) =>
    named.map((scheme) => {
      const parameters = [`realm="${realm}"`];
      if (error !== undefined) parameters.push(`error="${error}"`);
      if (scopes && scopes.length > 0) parameters.push(`scope="${scopes.join(' ')}"`);
      return ['WWW-Authenticate', `${scheme} ${parameters.join(', ')}`] as const;
    });
}

type Credentials = { readonly key: string } | 'ambiguous' | undefined;

/** The one key that the request carries. Two, even two equal ones, are refused: proxies disagree on which counts. */
function credentials(
  request: GuardRequest,
  schemes: readonly string[],
  header: string | undefined,
): Credentials {
  const found: string[] = [];
  const authorizations = request.headers.all('authorization');
  if (authorizations.length > 1) return 'ambiguous'; // whatever their schemes: RFC 9110 §5.3 allows one
  for (const value of authorizations) {
    const [, scheme = '', key = ''] = /^([A-Za-z]+) +(\S+) *$/.exec(value) ?? [];
    const accepted = schemes.some((known) => known.toLowerCase() === scheme.toLowerCase());
    if (accepted) found.push(key);
  }
  if (header !== undefined) found.push(...request.headers.all(header));
  const [key, ...more] = found;
  if (more.length > 0) return 'ambiguous';
  return key === undefined ? undefined : { key };
}

interface Exposed {
  readonly key: string;
  readonly where: 'query' | 'path';
}

function keyInUrl(keys: ApiKeys, { path, query }: GuardRequest): Exposed | undefined {
  for (const pair of query) {
    const key = keys.find(pair[1]) ?? keys.find(pair[0]);
    if (key !== undefined) return { key, where: 'query' };
  }
  const key = keys.find(path) ?? (path.includes('%') ? keys.find(unescaped(path)) : undefined);
  return key === undefined ? undefined : { key, where: 'path' };
}

// Escape by escape: `decodeURIComponent` gives up on all of them where one is none. Keys are ASCII.
function unescaped(path: string): string {
  return path.replace(/%([0-9a-f]{2})/gi, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
}

async function report(keys: ApiKeys, { key, where }: Exposed, ip: string): Promise<void> {
  const result = await keys.verify(key, { ip });
  const id = result.status === 'valid' ? result.record.id : 'id' in result ? result.id : undefined;
  // Only a genuine key is worth an alarm: anybody can make up one that parses.
  if (id !== undefined) publish('exposed', () => ({ id, status: result.status, where }));
}

function contextOf(record: KeyRecord): ApiKeyContext {
  const { id, owner, environment, scopes } = record;
  return { id, owner, environment, scopes, record };
}

/** The end of a key, announced to whoever uses it: in the syntax of `Sunset` (RFC 8594) and `Deprecation` (RFC 9745). */
function notices(record: KeyRecord, nowMs: number, warnMs: number): readonly HeaderEntry[] {
  const headers: HeaderEntry[] = [];
  const { expiresAtMs, rotatedAtMs } = record;
  if (rotatedAtMs !== undefined)
    headers.push(['API-Key-Deprecation', `@${Math.floor(rotatedAtMs / 1000)}`]);
  if (expiresAtMs !== undefined && expiresAtMs - nowMs <= warnMs) {
    headers.push(['API-Key-Sunset', new Date(expiresAtMs).toUTCString()]);
  }
  return headers;
}

function refusal(
  result: Exclude<VerifyResult, { status: 'valid' }>,
  challenge: Challenge,
  scopes: readonly string[] | undefined,
): Reply {
  switch (result.status) {
    case 'unavailable':
      return problem(503, 'Service Unavailable', 'API keys cannot be checked at the moment.', [
        ['Retry-After', '1'],
      ]);
    case 'insufficient_scope':
      return problem(
        403,
        'Forbidden',
        'The API key does not allow this.',
        challenge('insufficient_scope', scopes),
      );
    case 'ip_denied':
      return problem(403, 'Forbidden', 'The API key may not be used from here.', []);
    case 'malformed':
    case 'unknown':
    case 'wrong_environment':
    case 'expired':
    case 'revoked':
      return unauthorized(challenge('invalid_token'), 'The API key is not valid.');
  }
}

function unauthorized(challenge: readonly HeaderEntry[], detail: string): Reply {
  return problem(401, 'Unauthorized', detail, challenge);
}

function problem(
  status: number,
  title: string,
  detail: string,
  headers: readonly HeaderEntry[],
): Reply {
  return {
    pass: false,
    status,
    headers: [
      ['Content-Type', 'application/problem+json'],
      ['Cache-Control', 'no-store'],
      ...headers,
    ],
    body: JSON.stringify({ type: 'about:blank', title, status, detail }),
  };
}
