import { type OptionNames, unknownOption } from '@countersign/options';
import { ApiKeysError } from './errors.ts';
import { isAddressRange } from './ip-allowlist.ts';
import { ID_LENGTH } from './key-format.ts';
import type { KeyRateLimit, KeyRecord } from './record.ts';
import { isResourcePattern } from './resource.ts';
import { isGrantableScope } from './scope.ts';

export const DAY_MS = 86_400_000;
/** A hundred years: later times are mistakes, and beyond some of them dates and whole numbers end. */
const MAX_DAYS = 36_525;
const MAX_LIST = 100;
const MAX_METADATA_BYTES = 4096;
const CONTROL = /\p{Cc}/u;

/** What a new key is for. */
export interface CreateKey {
  /** Whose it is: an account, a partner, a machine. 1 to 200 characters. */
  readonly owner: string;
  /** At most 100, `orders:read` or hierarchical `orders:*`. May be empty. */
  readonly scopes: readonly string[];
  /** At most 100 patterns: `projects/42`, `projects/*`, `projects/42/**`. Default: no restriction. */
  readonly resources?: readonly string[];
  /** Days until it expires, at most `maxAgeDays`, which is the default. `'never'` needs `maxAgeDays: 'unlimited'`. */
  readonly expiresInDays?: number | 'never';
  /** Declared on the key, charged by the rate limiter. */
  readonly rateLimit?: KeyRateLimit;
  /** Uses in all, declared on the key, charged by the rate limiter. */
  readonly maxUses?: number;
  /** At most 100 addresses and CIDR ranges. Default: no restriction. */
  readonly ipAllowlist?: readonly string[];
  /** Strings by name, at most 4 KiB as JSON. No place for secrets: it is listed and logged. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Who creates it, for the audit trail. */
  readonly actor?: string;
}

const CREATE_OPTIONS: OptionNames<CreateKey> = {
  owner: true,
  scopes: true,
  resources: true,
  expiresInDays: true,
  rateLimit: true,
  maxUses: true,
  ipAllowlist: true,
  metadata: true,
  actor: true,
};

/** The longest life that a key may be given, in days. */
export type MaxAgeDays = number | 'unlimited';

/** Where a new record comes from. */
export interface Origin {
  readonly id: string;
  readonly head: string;
  readonly environment: string;
  readonly pepperId: string | undefined;
  readonly nowMs: number;
  readonly maxAgeDays: MaxAgeDays;
  readonly predecessorId?: string;
  readonly legacy?: true;
}

/** @throws ApiKeysError `ERR_API_KEYS_INVALID`, `ERR_API_KEYS_LIFETIME` */
export function newRecord(options: CreateKey, origin: Origin): KeyRecord {
  assertOptions(options);
  const { id, nowMs, pepperId } = origin;
  const lifetimeMs = lifetime(options.expiresInDays, origin.maxAgeDays);
  const record: { -readonly [K in keyof KeyRecord]: KeyRecord[K] } = {
    id,
    display: origin.head + id.slice(0, ID_LENGTH / 2),
    environment: origin.environment,
    owner: options.owner,
    scopes: frozenList(options.scopes),
    createdAtMs: nowMs,
  };
  if (lifetimeMs !== undefined) record.expiresAtMs = nowMs + lifetimeMs;
  if (options.resources) record.resources = frozenList(options.resources);
  if (options.rateLimit) record.rateLimit = Object.freeze({ ...options.rateLimit });
  if (options.maxUses !== undefined) record.maxUses = options.maxUses;
  if (options.ipAllowlist) record.ipAllowlist = frozenList(options.ipAllowlist);
  if (options.metadata) record.metadata = Object.freeze({ ...options.metadata });
  if (pepperId !== undefined) record.pepperId = pepperId;
  if (origin.predecessorId !== undefined) record.predecessorId = origin.predecessorId;
  if (origin.legacy) record.legacy = true;
  return Object.freeze(record);
}

/** What a successor is created with: what its predecessor was. */
export function sameGrant(record: KeyRecord): CreateKey {
  const { owner, scopes, resources, rateLimit, maxUses, ipAllowlist, metadata } = record;
  const days =
    record.expiresAtMs === undefined ? 'never' : (record.expiresAtMs - record.createdAtMs) / DAY_MS;
  return {
    owner,
    scopes,
    expiresInDays: days,
    ...(resources && { resources }),
    ...(rateLimit && { rateLimit }),
    ...(maxUses !== undefined && { maxUses }),
    ...(ipAllowlist && { ipAllowlist }),
    ...(metadata && { metadata }),
  };
}

/** @throws TypeError */
export function assertMaxAgeDays(maxAgeDays: MaxAgeDays): MaxAgeDays {
  if (maxAgeDays === 'unlimited' || (Number.isFinite(maxAgeDays) && maxAgeDays > 0))
    return maxAgeDays;
  throw new TypeError('maxAgeDays must be a number of days above 0, or "unlimited"');
}

/** @throws ApiKeysError `ERR_API_KEYS_INVALID` for none at all, and naming what is no option. */
export function assertNames<Options extends object>(
  options: Options,
  names: OptionNames<Options>,
): void {
  if (typeof options !== 'object' || options === null) throw invalid('options must be an object');
  const name = unknownOption(options, names);
  if (name !== undefined) throw invalid(`${name}: there is no such option`);
}

/** @throws ApiKeysError `ERR_API_KEYS_INVALID` */
export function assertText(name: string, value: unknown, maxLength = 200): asserts value is string {
  const sound =
    typeof value === 'string' &&
    value !== '' &&
    value.length <= maxLength &&
    value.isWellFormed() && // stored as UTF-8, two lone surrogates would be the same owner
    !CONTROL.test(value);
  if (!sound)
    throw invalid(
      `${name} must be 1 to ${maxLength} characters of well-formed text, none of them control`,
    );
}

/** @throws ApiKeysError `ERR_API_KEYS_INVALID` for anything but 0 to 36 525 days. */
export function assertDays(name: string, days: number): void {
  if (!(days >= 0 && days <= MAX_DAYS)) throw invalid(`${name} must be within ${MAX_DAYS} days`);
}

function lifetime(
  expiresInDays: number | 'never' | undefined,
  maxAgeDays: MaxAgeDays,
): number | undefined {
  const days = expiresInDays ?? (maxAgeDays === 'unlimited' ? 90 : maxAgeDays);
  if (days === 'never') {
    if (maxAgeDays === 'unlimited') return undefined;
    throw tooLong(maxAgeDays);
  }
  assertDays('expiresInDays', days);
  if (days === 0) throw invalid('expiresInDays must be above 0');
  if (maxAgeDays !== 'unlimited' && days > maxAgeDays) throw tooLong(maxAgeDays);
  return Math.round(days * DAY_MS);
}

function tooLong(maxAgeDays: number): ApiKeysError {
  return new ApiKeysError(
    'ERR_API_KEYS_LIFETIME',
    `a key may live ${maxAgeDays} days at most; createApiKeys({ maxAgeDays }) sets this limit`,
  );
}

function assertOptions(options: CreateKey): void {
  assertNames(options, CREATE_OPTIONS);
  assertText('owner', options.owner);
  if (options.actor !== undefined) assertText('actor', options.actor);
  assertList('scopes', options.scopes, isGrantableScope);
  assertRestriction('resources', options.resources, isResourcePattern);
  assertRestriction('ipAllowlist', options.ipAllowlist, isAddressRange);
  assertRateLimit(options.rateLimit);
  if (options.maxUses !== undefined && !isCount(options.maxUses)) {
    throw invalid('maxUses must be a whole number above 0');
  }
  assertMetadata(options.metadata);
}

// An empty restriction would be a key that can do nothing, or, read carelessly, one that can do everything.
function assertRestriction(name: string, list: unknown, isValid: (item: unknown) => boolean): void {
  if (list === undefined) return;
  assertList(name, list, isValid);
  if ((list as readonly unknown[]).length === 0) {
    throw invalid(`${name} must not be empty: leave it out for no restriction`);
  }
}

function assertList(name: string, list: unknown, isValid: (item: unknown) => boolean): void {
  if (!Array.isArray(list) || list.length > MAX_LIST) {
    throw invalid(`${name} must be a list of at most ${MAX_LIST}`);
  }
  const wrong = list.findIndex((item) => !isValid(item));
  if (wrong !== -1) throw invalid(`${name}[${wrong}] is not valid`);
}

function assertRateLimit(rateLimit: unknown): void {
  if (rateLimit === undefined) return;
  const { policy, limit, windowSeconds, ...more } = (rateLimit ?? {}) as Record<string, unknown>;
  if (policy !== undefined) assertText('rateLimit.policy', policy);
  const sound = policy !== undefined || (isCount(limit) && isCount(windowSeconds));
  if (!sound || Object.keys(more).length > 0) {
    throw invalid(
      'rateLimit must be { policy } or { limit, windowSeconds }, whole numbers above 0',
    );
  }
}

function assertMetadata(metadata: unknown): void {
  if (metadata === undefined) return;
  const sound =
    Object.prototype.toString.call(metadata) === '[object Object]' && // a Map would be stored as nothing
    Object.values(metadata as object).every((value) => typeof value === 'string') &&
    Buffer.byteLength(JSON.stringify(metadata)) <= MAX_METADATA_BYTES;
  if (!sound)
    throw invalid(`metadata must be strings by name, at most ${MAX_METADATA_BYTES} bytes`);
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) > 0;
}

function frozenList(list: readonly string[]): readonly string[] {
  return Object.freeze([...list]);
}

function invalid(message: string): ApiKeysError {
  return new ApiKeysError('ERR_API_KEYS_INVALID', message);
}
