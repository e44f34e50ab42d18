import { ApiKeysError } from './errors.ts';
import { ID_LENGTH } from './key-format.ts';
import type { KeyRateLimit, KeyRecord, StoredKey } from './record.ts';

type Fields = Readonly<Record<string, string>>;
type Draft = { -readonly [K in keyof KeyRecord]: KeyRecord[K] };

const FORMAT_VERSION = '1';

/** A stored key as fields of a Redis hash. Names and values are short so that Redis keeps the hash as one listpack. */
export function toFields({ record, digest }: StoredKey): string[] {
  const fields: Record<string, string | undefined> = {
    v: FORMAT_VERSION,
    h: digest,
    k: record.pepperId,
    d: record.display.slice(0, -ID_LENGTH / 2),
    n: record.environment,
    o: record.owner,
    s: record.scopes.join(' '),
    g: json(record.resources),
    l: json(record.rateLimit),
    m: number(record.maxUses),
    a: record.ipAllowlist?.join(' '),
    j: json(record.metadata),
    c: number(record.createdAtMs),
    x: number(record.expiresAtMs),
    r: number(record.rotatedAtMs),
    R: record.successorId,
    P: record.predecessorId,
    z: number(record.revokedAtMs),
    Z: record.revokedReason,
    u: number(record.lastUsedAtMs),
    y: record.legacy && '1',
  };
  return Object.entries(fields).flatMap(([name, value]) =>
    value === undefined ? [] : [name, value],
  );
}

/**
 * @param reply - what `HGETALL` answered; empty when there is no such key.
 * @throws ApiKeysError `ERR_API_KEYS_CORRUPT_RECORD`: a record that cannot be read must not be guessed at.
 */
export function fromFields(id: string, reply: readonly string[]): StoredKey | undefined {
  if (reply.length === 0) return undefined;
  const fields: Record<string, string> = {};
  for (let index = 0; index < reply.length; index += 2) {
    fields[reply[index] as string] = reply[index + 1] as string;
  }
  try {
    return { record: Object.freeze(readRecord(id, fields)), digest: required(fields, 'h') };
  } catch (error) {
    // Neither fields nor cause: both could quote the digest.
    const what = error instanceof Missing ? error.message : 'unreadable';
    throw new ApiKeysError('ERR_API_KEYS_CORRUPT_RECORD', `the record of key ${id} is ${what}`);
  }
}

class Missing extends Error {}

function readRecord(id: string, fields: Fields): KeyRecord {
  if (required(fields, 'v') !== FORMAT_VERSION) throw new Missing('of an unknown version');
  const record: Draft = {
    id,
    display: required(fields, 'd') + id.slice(0, ID_LENGTH / 2),
    environment: required(fields, 'n'),
    owner: required(fields, 'o'),
    scopes: words(required(fields, 's')),
    createdAtMs: integer(required(fields, 'c')),
  };
  const { g, l, m, a, j, x, r, R, P, z, Z, u, k, y } = fields;
  if (g !== undefined) record.resources = texts(g);
  if (l !== undefined) record.rateLimit = object<KeyRateLimit>(l);
  if (m !== undefined) record.maxUses = integer(m);
  if (a !== undefined) record.ipAllowlist = words(a);
  if (j !== undefined) record.metadata = object<Record<string, string>>(j);
  if (x !== undefined) record.expiresAtMs = integer(x);
  if (r !== undefined) record.rotatedAtMs = integer(r);
  if (R !== undefined) record.successorId = R;
  if (P !== undefined) record.predecessorId = P;
  if (z !== undefined) record.revokedAtMs = integer(z);
  if (Z !== undefined) record.revokedReason = Z;
  if (u !== undefined) record.lastUsedAtMs = integer(u);
  if (k !== undefined) record.pepperId = k;
  if (y !== undefined) record.legacy = true;
  return record;
}

function required(fields: Fields, name: string): string {
  const value = fields[name];
  if (value === undefined) throw new Missing(`without its field "${name}"`);
  return value;
}

function integer(text: string): number {
  const value = Number(text);
  if (text === '' || !Number.isSafeInteger(value)) throw new Missing('unreadable');
  return value;
}

function words(text: string): readonly string[] {
  return Object.freeze(text === '' ? [] : text.split(' '));
}

function texts(json: string): readonly string[] {
  const value: unknown = JSON.parse(json);
  if (!Array.isArray(value) || !value.every((item) => typeof item === 'string'))
    throw new Missing('unreadable');
  return Object.freeze(value);
}

function object<T extends object>(json: string): Readonly<T> {
  const value: unknown = JSON.parse(json);
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new Missing('unreadable');
  return Object.freeze(value as T);
}

function json(value: unknown): string | undefined {
  return value === undefined ? undefined : JSON.stringify(value);
}

function number(value: number | undefined): string | undefined {
  return value?.toString();
}
