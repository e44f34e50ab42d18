import type { OptionNames } from '@countersign/options';
import type { AuditEntry } from './audit.ts';
import { ApiKeysError, type ApiKeysErrorCode } from './errors.ts';
import { publish } from './events.ts';
import {
  assertDays,
  assertNames,
  assertText,
  type CreateKey,
  type MaxAgeDays,
  newRecord,
  type Origin,
  sameGrant,
} from './issue.ts';
import { ID_LENGTH, isId, type KeyFormat, newId, newSecret } from './key-format.ts';
import { type ImportHash, importedDigest, legacyId } from './legacy.ts';
import type { PepperRing } from './pepper.ts';
import type { KeyRecord, StoredKey } from './record.ts';
import { type ApiKeyStore, type Rotation, rotationRefusal } from './store.ts';

const MAX_ATTEMPTS = 3;

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

const ROTATE_OPTIONS: OptionNames<RotateOptions> = {
  overlapSeconds: true,
  expiresInDays: true,
  actor: true,
};

/** What new keys are made with. */
export interface IssuerParts {
  readonly store: ApiKeyStore;
  readonly format: KeyFormat;
  readonly peppers: PepperRing;
  readonly maxAgeDays: MaxAgeDays;
  readonly now: () => number;
  readonly entry: (made: AuditEntry) => AuditEntry | undefined;
}

/** Makes keys: new ones, successors, and records for keys of another system. */
export interface Issuer {
  readonly create: (grant: CreateKey) => Promise<CreatedKey>;
  readonly rotate: (id: string, options: RotateOptions) => Promise<CreatedKey>;
  readonly importHash: (options: ImportHash) => Promise<KeyRecord>;
  readonly adopt: (id: string, payload: string, grant: CreateKey) => Promise<StoredKey | undefined>;
}

export function keyIssuer({ store, format, peppers, maxAgeDays, now, entry }: IssuerParts): Issuer {
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
    async rotate(id, options) {
      assertNames(options, ROTATE_OPTIONS);
      const { overlapSeconds, expiresInDays, actor } = options;
      assertDays('overlapSeconds', overlapSeconds / 86_400);
      if (actor !== undefined) assertText('actor', actor);
      const old = isId(id) ? await store.find(id) : undefined;
      if (!old) throw notRotated(id, 'not_found');
      // Stores are shared: a test key must not turn into a live one, nor a public into a secret one.
      const { display, environment: issuedFor, legacy } = old.record;
      if (issuedFor !== environment || !(legacy || display === head + id.slice(0, ID_LENGTH / 2)))
        throw refused('ERR_API_KEYS_INVALID', id, 'has another prefix or environment');
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
          overlapEndsAtMs: atMs + Math.floor(overlapSeconds * 1000),
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

export function refused(code: ApiKeysErrorCode, id: string, what: string): ApiKeysError {
  return new ApiKeysError(code, `key ${isId(id) ? id : '(not an id)'} ${what}`);
}
