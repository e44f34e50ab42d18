import type { AuditEntry } from './audit.ts';
import { type Background, background } from './background.ts';
import { type KeyCache, type KeyCacheOptions, keyCache } from './cache.ts';
import { ApiKeysError, type ApiKeysErrorCode } from './errors.ts';
import { publish } from './events.ts';
import {
  assertMaxAgeDays,
  assertText,
  type CreateKey,
  DAY_MS,
  type MaxAgeDays,
  newRecord,
  type Origin,
  sameGrant,
} from './issue.ts';
import {
  type KeyFormat,
  type KeyFormatOptions,
  keyFormat,
  newId,
  newSecret,
} from './key-format.ts';
import { type ImportHash, importedDigest, type Legacy, legacyId } from './legacy.ts';
import { type Pepper, type PepperRing, pepperRing } from './pepper.ts';
import type { KeyRecord, StoredKey } from './record.ts';
import {
  type ApiKeyStore,
  type Page,
  type PageRequest,
  type Rotation,
  rotationRefusal,
} from './store.ts';
import { throttle } from './throttle.ts';
import { type Verifier, type VerifierParts, verifier } from './verify.ts';

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

/** A new key. This is the only time that it exists outside of its owner's hands. */
export interface CreatedKey {
  readonly key: string;
  readonly record: KeyRecord;
}

export interface RotateOptions {
  /** How long the old key still works, in seconds; never beyond its own expiry. */
  readonly overlapSeconds: number;
  /** The successor's life. Default: as long as its predecessor's was. */
  readonly expiresInDays?: number | 'never';
  readonly actor?: string;
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
   * @throws ApiKeysError `ERR_API_KEYS_NOT_FOUND`, `_REVOKED`, `_EXPIRED`, `_ALREADY_ROTATED`
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

const LAST_USED_INTERVAL_MS = 60_000;
const MAX_ATTEMPTS = 3;

/** @throws TypeError for options that cannot work. Starts no timers and opens no connections. */
export function createApiKeys(options: ApiKeysOptions): ApiKeys {
  const { store, now = Date.now, audit = false } = options;
  if (typeof store?.find !== 'function') throw new TypeError('store must be an ApiKeyStore');
  const format = keyFormat(options);
  const peppers = pepperRing(options.peppers);
  const maxAgeDays = assertMaxAgeDays(options.maxAgeDays ?? 90);
  const writes = background();
  const cache =
    options.cache === false ? undefined : listening(store, keyCache(options.cache ?? {}));
  const entry = (made: AuditEntry): AuditEntry | undefined =>
    audit ? definedOnly(made) : undefined;
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
    used: watch.used,
    refused: watch.refused,
    adopt: async (claim, lookup) => {
      const grant = await lookup();
      return grant && issuer.adopt(claim.id, claim.payload, grant);
    },
  });

  return {
    verify(presented, verifyOptions) {
      cache?.listen();
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
    async revoke(id, { reason, actor }) {
      assertText('reason', reason);
      if (actor !== undefined) assertText('actor', actor);
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
        if (!record) throw refused('ERR_API_KEYS_NOT_FOUND', id, 'does not exist');
        publish('revoked', () => ({ record, reason, ...(actor !== undefined && { actor }) }));
        return record;
      } finally {
        cache?.entries.evict(id);
      }
    },
    get: async (id) => (await store.find(id))?.record,
    list({ owner, ...page }) {
      return store.list(owner, page);
    },
    async dueForRotation({ withinDays = 14, ...page } = {}) {
      const nowMs = now();
      const { records, ...rest } = await store.expiring(nowMs, nowMs + withinDays * DAY_MS, page);
      const due = records.filter(
        (record) => record.revokedAtMs === undefined && !record.successorId,
      );
      return { records: due, ...rest };
    },
    importHash: issuer.importHash,
    trail: (id, limit = 100) => store.trail(id, limit),
    find: format.find,
    async close() {
      cache?.stop();
      await writes.settled();
    },
  };
}

interface IssuerParts {
  readonly store: ApiKeyStore;
  readonly format: KeyFormat;
  readonly peppers: PepperRing;
  readonly maxAgeDays: MaxAgeDays;
  readonly now: () => number;
  readonly entry: (made: AuditEntry) => AuditEntry | undefined;
}

interface Issuer {
  readonly create: (grant: CreateKey) => Promise<CreatedKey>;
  readonly rotate: (id: string, options: RotateOptions) => Promise<CreatedKey>;
  readonly importHash: (options: ImportHash) => Promise<KeyRecord>;
  readonly adopt: (id: string, payload: string, grant: CreateKey) => Promise<StoredKey | undefined>;
}

function keyIssuer({ store, format, peppers, maxAgeDays, now, entry }: IssuerParts): Issuer {
  const { environment, head } = format;
  const origin = (id: string, nowMs: number, pepperId: string | undefined): Origin => ({
    id,
    head,
    environment,
    pepperId,
    nowMs,
    maxAgeDays,
  });

  async function draft(
    grant: CreateKey,
    nowMs: number,
    predecessorId?: string,
  ): Promise<{ key: string; stored: StoredKey }> {
    if (!peppers.loaded) await peppers.load();
    const id = newId(predecessorId);
    const key = format.write(id, newSecret());
    const from = origin(id, nowMs, peppers.currentId);
    const record = newRecord(
      grant,
      predecessorId === undefined ? from : { ...from, predecessorId },
    );
    return { key, stored: { record, digest: digestOf(key) } };
  }

  function digestOf(payload: string): string {
    return peppers.digest(payload, peppers.currentId) as string;
  }

  function created(record: KeyRecord, actor: string | undefined): AuditEntry | undefined {
    return entry({
      event: 'created',
      id: record.id,
      atMs: record.createdAtMs,
      ...(actor !== undefined && { actor }),
    });
  }

  /** Adopted and imported keys. Their record starts now: the old system's dates are the caller's to pass on. */
  async function addLegacy(
    id: string,
    digest: string,
    pepperId: string | undefined,
    grant: CreateKey,
  ) {
    const from: Origin = { ...origin(id, now(), pepperId), head: 'legacy-', legacy: true };
    const stored: StoredKey = { record: newRecord(grant, from), digest };
    if (!(await store.create(stored, created(stored.record, grant.actor)))) return undefined;
    publish('adopted', () => ({ record: stored.record }));
    return stored;
  }

  return {
    async create(grant) {
      for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt += 1) {
        const { key, stored } = await draft(grant, now());
        const { record } = stored;
        if (await store.create(stored, created(record, grant.actor))) {
          publish('created', () => ({
            record,
            ...(grant.actor !== undefined && { actor: grant.actor }),
          }));
          return { key, record };
        }
      }
      throw new ApiKeysError(
        'ERR_API_KEYS_ALREADY_EXISTS',
        'no free id was found: is the random generator sound?',
      );
    },
    async rotate(id, { overlapSeconds, expiresInDays, actor }) {
      if (!(Number.isFinite(overlapSeconds) && overlapSeconds >= 0)) {
        throw new ApiKeysError('ERR_API_KEYS_INVALID', 'overlapSeconds must be 0 or more');
      }
      const old = await store.find(id);
      if (!old) throw notRotated(id, 'not_found');
      // A key that was rotated is at its end: a successor's life must not be measured by what is left of it.
      const refusal = rotationRefusal(old.record, now());
      if (refusal) throw notRotated(id, refusal);
      const grant = {
        ...successorGrant(old.record, maxAgeDays),
        ...(expiresInDays !== undefined && { expiresInDays }),
      };
      for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt += 1) {
        const atMs = now();
        const { key, stored: successor } = await draft(grant, atMs, id);
        const made = entry({ event: 'rotated', id, atMs, ...(actor !== undefined && { actor }) });
        const rotation: Rotation = {
          successor,
          atMs,
          overlapEndsAtMs: atMs + overlapSeconds * 1000,
          ...(made && { audit: made }),
        };
        const outcome = await store.rotate(id, rotation);
        if (outcome.status === 'rotated') {
          const { record } = outcome;
          publish('rotated', () => ({
            record,
            successor: successor.record,
            ...(actor !== undefined && { actor }),
          }));
          return { key, record: successor.record };
        }
        if (outcome.status !== 'id_taken') throw notRotated(id, outcome.status);
      }
      throw new ApiKeysError(
        'ERR_API_KEYS_ALREADY_EXISTS',
        'no free id was found: is the random generator sound?',
      );
    },
    async adopt(id, payload, grant) {
      // `undefined` from `addLegacy`: another process adopted it in the meantime, and the same proof holds.
      return (
        (await addLegacy(id, digestOf(payload), peppers.currentId, grant)) ?? (await store.find(id))
      );
    },
    async importHash({ sha256, ...grant }) {
      const digest = importedDigest(sha256);
      const stored = await addLegacy(legacyId(digest), digest, undefined, grant);
      if (!stored)
        throw new ApiKeysError('ERR_API_KEYS_ALREADY_EXISTS', 'this hash has a record already');
      return stored.record;
    },
  };
}

interface Usage {
  readonly used: VerifierParts['used'];
  readonly refused: VerifierParts['refused'];
}

/** Writes down that keys were used or refused: at most once a minute for each, and off the request path. */
function usage(parts: {
  readonly store: ApiKeyStore;
  readonly writes: Background;
  readonly entry: (made: AuditEntry) => AuditEntry | undefined;
}): Usage {
  const { store, writes, entry } = parts;
  const useDue = throttle(LAST_USED_INTERVAL_MS, 10_000);
  const refusalDue = throttle(LAST_USED_INTERVAL_MS, 10_000);
  return {
    used({ id, lastUsedAtMs }, atMs, ip) {
      if (!useDue(id, atMs)) return;
      if (lastUsedAtMs !== undefined && atMs - lastUsedAtMs < LAST_USED_INTERVAL_MS) return;
      writes.run('touch', async () => {
        const made = entry({ event: 'used', id, atMs, ...(ip !== undefined && { ip }) });
        if (await store.touch(id, atMs, LAST_USED_INTERVAL_MS, made))
          publish('used', () => ({ id, atMs }));
      });
    },
    refused({ id }, reason, atMs, ip) {
      const made = entry({ event: 'denied', id, atMs, reason, ...(ip !== undefined && { ip }) });
      if (made && refusalDue(`${id} ${reason}`, atMs))
        writes.run('append', () => store.append(made));
    },
  };
}

interface ListeningCache {
  readonly entries: KeyCache;
  /** Begins to follow the store's changes, at the first use rather than at construction. */
  listen(): void;
  stop(): void;
}

function listening(store: ApiKeyStore, entries: KeyCache): ListeningCache {
  let stop: (() => void) | undefined;
  return {
    entries,
    listen() {
      stop ??=
        store.subscribe?.((change) =>
          change === 'all' ? entries.flush() : entries.evict(change.id),
        ) ?? (() => {});
    },
    stop() {
      stop?.();
      stop = () => {};
      entries.flush();
    },
  };
}

function successorGrant(record: KeyRecord, maxAgeDays: MaxAgeDays): CreateKey {
  const grant = sameGrant(record);
  if (maxAgeDays === 'unlimited') return grant;
  const days = typeof grant.expiresInDays === 'number' ? grant.expiresInDays : maxAgeDays;
  return { ...grant, expiresInDays: Math.min(days, maxAgeDays) }; // the limit may be newer than the key
}

const ROTATION_REFUSALS: Record<
  'not_found' | 'revoked' | 'expired' | 'already_rotated',
  readonly [ApiKeysErrorCode, string]
> = {
  not_found: ['ERR_API_KEYS_NOT_FOUND', 'does not exist'],
  revoked: ['ERR_API_KEYS_REVOKED', 'is revoked: create a new one'],
  expired: ['ERR_API_KEYS_EXPIRED', 'has expired: create a new one'],
  already_rotated: ['ERR_API_KEYS_ALREADY_ROTATED', 'has a successor already: rotate that one'],
};

function notRotated(id: string, status: keyof typeof ROTATION_REFUSALS): ApiKeysError {
  const [code, what] = ROTATION_REFUSALS[status];
  return refused(code, id, what);
}

// The id is shown only when it looks like one: whoever passes a whole key by mistake must not find it in a log.
function refused(code: ApiKeysErrorCode, id: string, what: string): ApiKeysError {
  return new ApiKeysError(code, `key ${/^[0-9A-Za-z]{16}$/.test(id) ? id : '(not an id)'} ${what}`);
}

function definedOnly(entry: AuditEntry): AuditEntry {
  return Object.freeze(entry);
}
