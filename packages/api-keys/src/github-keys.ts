import { createPublicKey, type KeyObject } from 'node:crypto';
import { assertKnown, type OptionNames } from '@countersign/options';
import { ApiKeysError } from './errors.ts';
import { assertFunction } from './options.ts';

/** Finds the public key that a report says it is signed with. */
export type ReportKeys = (identifier: string) => Promise<KeyObject | undefined>;

export interface GithubKeysOptions {
  /** Default GitHub's, https://api.github.com/meta/public_keys/secret_scanning. */
  readonly url?: string;
  /** A GitHub token of no scopes, against GitHub's rate limit for the anonymous. Default: none. */
  readonly token?: string;
  /** Default: the built-in `fetch`. */
  readonly fetch?: typeof fetch;
  /** The time in ms since 1970. Default `Date.now`. */
  readonly now?: () => number;
}

const KNOWN: OptionNames<GithubKeysOptions> = { url: true, token: true, fetch: true, now: true };
const GITHUB_KEYS_URL = 'https://api.github.com/meta/public_keys/secret_scanning';
const MAX_AGE_MS = 3_600_000;
/** An unknown identifier, or a failure, makes us ask again, at most this often: anybody can send us one. */
const MIN_INTERVAL_MS = 60_000;
const TIMEOUT_MS = 10_000;

/**
 * GitHub's current secret-scanning keys, fetched when needed and kept for an hour. Retired keys do not count.
 * The function rejects with `ERR_API_KEYS_REPORT_KEYS` when GitHub cannot be asked and nothing fresh is at hand.
 */
export function githubKeys(options: GithubKeysOptions = {}): ReportKeys {
  assertKnown(options, KNOWN);
  const { url = GITHUB_KEYS_URL, token, now = Date.now } = options;
  assertFunction('now', now);
  if (options.fetch !== undefined) assertFunction('fetch', options.fetch);
  let known: ReadonlyMap<string, KeyObject> = new Map();
  let fetchedAtMs = Number.NEGATIVE_INFINITY;
  let askedAtMs = Number.NEGATIVE_INFINITY;
  let fetching: Promise<void> | undefined;
  let failure: ApiKeysError | undefined;

  async function download(): Promise<void> {
    askedAtMs = now();
    try {
      const response = await (options.fetch ?? fetch)(url, {
        headers: {
          accept: 'application/json',
          ...(token !== undefined && { authorization: `Bearer ${token}` }),
        },
        redirect: 'error',
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      if (!response.ok) throw new Error(`status ${response.status}`);
      known = currentKeys(await response.json());
      fetchedAtMs = now();
    } catch (cause) {
      failure = new ApiKeysError(
        'ERR_API_KEYS_REPORT_KEYS',
        'the public keys for reports cannot be fetched',
        { cause },
      );
      throw failure;
    }
  }

  function refresh(): Promise<void> {
    fetching ??= download().finally(() => {
      fetching = undefined;
    });
    return fetching;
  }

  return async (identifier) => {
    const nowMs = now();
    const stale = nowMs - fetchedAtMs >= MAX_AGE_MS;
    const mayAsk = fetching !== undefined || nowMs - askedAtMs >= MIN_INTERVAL_MS;
    if (mayAsk && (stale || !known.has(identifier))) await refresh();
    else if (stale) throw failure;
    return known.get(identifier);
  };
}

/** The answer of GitHub's endpoint as keys by identifier: those on P-256 that are current. */
export function currentKeys(answer: unknown): ReadonlyMap<string, KeyObject> {
  const { public_keys: listed } = (answer ?? {}) as { public_keys?: unknown };
  if (!Array.isArray(listed)) throw new TypeError('no list of public keys');
  const keys = new Map<string, KeyObject>();
  for (const { key_identifier: identifier, key, is_current: isCurrent } of listed as PublicKey[]) {
    if (isCurrent !== true || typeof identifier !== 'string' || typeof key !== 'string') continue;
    const publicKey = readable(key);
    if (publicKey?.asymmetricKeyDetails?.namedCurve === 'prime256v1')
      keys.set(identifier, publicKey);
  }
  return keys;
}

// A key of an algorithm that is not known here must not take those with it that are.
function readable(key: string): KeyObject | undefined {
  try {
    return createPublicKey(key);
  } catch {
    return undefined;
  }
}

interface PublicKey {
  readonly key_identifier?: unknown;
  readonly key?: unknown;
  readonly is_current?: unknown;
}
