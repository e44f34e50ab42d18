import { assertKnown, type OptionNames } from '@countersign/options';
import type { AuditEntry } from './audit.ts';
import { background } from './background.ts';
import { type KeyCacheOptions, keyCache } from './cache.ts';
import { listening } from './cache-eviction.ts';
import type { ApiKeysError } from './errors.ts';
import { publish } from './events.ts';
import {
  assertDays,
  assertMaxAgeDays,
  assertNames,
  assertText,
  type CreateKey,
  DAY_MS,
  type MaxAgeDays,
} from './issue.ts';
import { type CreatedKey, keyIssuer, type RotateOptions, refused } from './issuer.ts';
import { isId, type KeyFormatOptions, keyFormat } from './key-format.ts';
import type { ImportHash, Legacy } from './legacy.ts';
import { assertFunction } from './options.ts';
import { type Pepper, pepperRing } from './pepper.ts';
import type { KeyRecord } from './record.ts';
import { type ApiKeyStore, type Page, type PageRequest, pageLimit } from './store.ts';
import { usage } from './usage.ts';
import { unavailable, type Verifier, verifier } from './verify.ts';

export interface ApiKeysOptions extends KeyFormatOptions {
  readonly store: ApiKeyStore;
  /** Newest first: it makes digests, the others still verify and are replaced at first use. `'none'`: plain SHA-256. */
  readonly peppers: readonly Pepper[] | 'none';
  /** The longest life of a key, in days. Default 90. `'unlimited'` allows more, and keys that never expire. */
  readonly maxAgeDays?: MaxAgeDays;
  /** Default: verified keys are used for 5 s without asking the store. `false`: the store is always asked. */
  readonly cache?: KeyCacheOptions | false;
  /** Accepts keys of the system being left behind. */
  readonly legacy?: Legacy;
  /** Keep the audit trail in the store as well. Default false: events only. */
  readonly audit?: boolean;
  /** The time in ms since 1970. Default `Date.now`. */
  readonly now?: () => number;
}

export interface RevokeOptions {
  /** Kept in the record. 1 to 200 characters. */
  readonly reason: string;
  readonly actor?: string;
}

export interface DueRequest extends PageRequest {
  /** Keys that expire within so many days. Default 14. */
  readonly withinDays?: number;
}

/** Issues, verifies, rotates and revokes the keys of one format. */
export interface ApiKeys extends Verifier {
  /** @throws ApiKeysError `ERR_API_KEYS_INVALID`, `ERR_API_KEYS_LIFETIME` */
  create(options: CreateKey): Promise<CreatedKey>;
  /**
   * Makes a successor with the same grant and a secret of its own.
   * @throws ApiKeysError `ERR_API_KEYS_NOT_FOUND`, `_REVOKED`, `_EXPIRED`, `_ALREADY_ROTATED`; `_INVALID` also for a
   * key of another prefix or environment in the same store
   */
  rotate(id: string, options: RotateOptions): Promise<CreatedKey>;
  /**
   * Turns a key off, at once and for good; the first reason stands. A successor is a key of its own and stays.
   * @throws ApiKeysError `ERR_API_KEYS_NOT_FOUND`
   */
  revoke(id: string, options: RevokeOptions): Promise<KeyRecord>;
  get(id: string): Promise<KeyRecord | undefined>;
  list(request: PageRequest & { readonly owner: string }): Promise<Page>;
  /** Keys about to expire that are neither revoked nor rotated yet, soonest first. Pages may be short. */
  dueForRotation(request?: DueRequest): Promise<Page>;
  /**
   * Makes a record for a legacy key of which only the hash is known. Needs `legacy` to recognise the key later.
   * @throws ApiKeysError `ERR_API_KEYS_ALREADY_EXISTS`
   */
  importHash(options: ImportHash): Promise<KeyRecord>;
  /** A key's audit trail, newest first, where `audit: true` keeps one. Default: the last 100 entries. */
  trail(id: string, limit?: number): Promise<readonly AuditEntry[]>;
  /** The first key of this service, of whatever environment, anywhere in a text; for scanning URLs and logs. */
  find(text: string): string | undefined;
  /** Writes what is pending and stops listening to the store. The store itself stays open. */
  close(): Promise<void>;
}

const KNOWN: OptionNames<ApiKeysOptions> = {
  store: true,
  peppers: true,
  prefix: true,
  environment: true,
  brand: true,
  separator: true,
  maxAgeDays: true,
  cache: true,
  legacy: true,
  audit: true,
  now: true,
};
const REVOKE_OPTIONS: OptionNames<RevokeOptions> = { reason: true, actor: true };
const LIST_REQUEST: OptionNames<Parameters<ApiKeys['list']>[0]> = {
  owner: true,
  limit: true,
  cursor: true,
};
const DUE_REQUEST: OptionNames<DueRequest> = { withinDays: true, limit: true, cursor: true };

/** @throws TypeError for options that cannot work. Starts no timers and opens no connections. */
export function createApiKeys(options: ApiKeysOptions): ApiKeys {
  assertKnown(options, KNOWN);
  const { store, now = Date.now, audit = false } = options;
  assertFunction('now', now);
  if (options.legacy !== undefined) assertFunction('legacy', options.legacy);
  if (typeof store?.find !== 'function') throw new TypeError('store must be an ApiKeyStore');
  const format = keyFormat(options);
  const peppers = pepperRing(options.peppers);
  const maxAgeDays = assertMaxAgeDays(options.maxAgeDays ?? 90);
  const writes = background();
  const cache =
    options.cache === false ? undefined : listening(store, keyCache(options.cache ?? {}));
  const entry = (made: AuditEntry): AuditEntry | undefined =>
    audit ? Object.freeze(made) : undefined;
  const issuer = keyIssuer({ store, format, peppers, maxAgeDays, now, entry });
  const watch = usage({ store, writes, entry });

  const { verify, identify } = verifier({
    format,
    store,
    peppers,
    cache: cache?.entries,
    legacy: options.legacy,
    background: writes,
    now,
    // The wall clock may be set back, and would then prolong what is cached.
    ticks: options.now ?? (() => performance.now()),
    used: watch.used,
    refused: watch.refused,
    adopt: async (claim, lookup) => {
      const grant = await lookup();
      return grant && issuer.adopt(claim.id, claim.payload, grant);
    },
  });

  return {
    verify(presented, verifyOptions) {
      try {
        cache?.listen();
      } catch (error) {
        return Promise.resolve(unavailable(error));
      }
      return verify(presented, verifyOptions);
    },
    identify,
    create: issuer.create,
    async rotate(id, rotateOptions) {
      try {
        return await issuer.rotate(id, rotateOptions);
      } finally {
        cache?.entries.evict(id); // also after an error: the store may have made the change before it failed
      }
    },
    async revoke(id, revokeOptions) {
      assertNames(revokeOptions, REVOKE_OPTIONS);
      const { reason, actor } = revokeOptions;
      assertText('reason', reason);
      if (actor !== undefined) assertText('actor', actor);
      if (!isId(id)) throw unknownKey(id);
      const atMs = now();
      try {
        const made = entry({
          event: 'revoked',
          id,
          atMs,
          reason,
          ...(actor !== undefined && { actor }),
        });
        const record = await store.revoke(id, { atMs, reason, ...(made && { audit: made }) });
        if (!record) throw unknownKey(id);
        publish('revoked', () => ({ record, reason, ...(actor !== undefined && { actor }) }));
        return record;
      } finally {
        cache?.entries.evict(id);
      }
    },
    get: async (id) => (isId(id) ? (await store.find(id))?.record : undefined),
    async list(request) {
      assertNames(request, LIST_REQUEST);
      const { owner, ...page } = request;
      assertText('owner', owner);
      return store.list(owner, page);
    },
    async dueForRotation(request = {}) {
      assertNames(request, DUE_REQUEST);
      const { withinDays = 14, ...page } = request;
      assertDays('withinDays', withinDays);
      const nowMs = now();
      const { records, ...rest } = await store.expiring(nowMs, nowMs + withinDays * DAY_MS, page);
      const due = records.filter(
        (record) => record.revokedAtMs === undefined && !record.successorId,
      );
      return { records: due, ...rest };
    },
    importHash: issuer.importHash,
    async trail(id, limit) {
      const entries = pageLimit(limit);
      return isId(id) ? store.trail(id, entries) : [];
    },
    find: format.find,
    async close() {
      cache?.stop();
      await writes.settled();
    },
  };
}

function unknownKey(id: string): ApiKeysError {
  return refused('ERR_API_KEYS_NOT_FOUND', id, 'does not exist');
}
