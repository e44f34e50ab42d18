import { assertKnown, type OptionNames } from '@countersign/options';
import { assertRedisClient, type RedisClient, script } from '@countersign/redis';
import type { SealKeySource } from '@countersign/seal';
import {
  type Endpoint,
  type EndpointChanges,
  type EndpointSecret,
  type EndpointStore,
  filtersFor,
  MAX_SECRETS,
} from './endpoint-store.ts';
import { WebhookError } from './errors.ts';
import { assertWhole } from './range.ts';
import { createVault } from './seal.ts';

/** Options of {@link redisEndpointStore}. */
export interface RedisEndpointStoreOptions {
  /**
   * Encrypt URLs, secrets, custom headers and client certificates, so that Redis never holds them readable, and nobody who
   * can write to Redis can make up another: keys of `@countersign/seal`, 32 bytes or what gets them; the first encrypts, all
   * decrypt.
   */
  readonly encryptionKeys: readonly SealKeySource[];
  /** Begins every key; default `webhooks`. */
  readonly prefix?: string;
  /** How long an operation may take, in milliseconds; default 1000. */
  readonly timeoutMs?: number;
}

const known: OptionNames<RedisEndpointStoreOptions> = {
  encryptionKeys: true,
  prefix: true,
  timeoutMs: true,
};

/**
 * Keeps endpoints in Redis, Sentinel or Cluster: a hash of records and one set per event-type filter, in one slot.
 * @throws TypeError for a client that is none of ioredis, when there is no encryption key or one is not of 32 bytes, and when `timeoutMs` is out of range.
 */
export function redisEndpointStore(
  redis: RedisClient,
  options: RedisEndpointStoreOptions,
): EndpointStore {
  assertKnown(options, known);
  const { encryptionKeys, prefix = 'webhooks', timeoutMs = 1000 } = options;
  assertRedisClient('redis', redis);
  assertWhole('timeoutMs', timeoutMs, 1, 3_600_000);
  const vault = createVault(encryptionKeys);
  const call = { timeoutMs };
  const base = `${prefix}:{endpoints}`;
  const keys = [`${base}:records`, `${base}:type:`] as const;

  const contextOf = (id: string, what: string): string => `${base}:${id}:${what}`;

  /** What is worth protecting is sealed, bound to the endpoint that it belongs to and to what it is. */
  async function sealed(text: string, context: string): Promise<string> {
    return (await vault.seal(Buffer.from(text, 'utf8'), context)).toString('base64');
  }

  async function opened(text: string, context: string): Promise<string> {
    return (await vault.open(Buffer.from(text, 'base64'), context)).toString('utf8');
  }

  /** Each setting is a text that the scripts move about as a whole. */
  async function fieldOf(id: string, name: Field, value: unknown): Promise<string> {
    const text = JSON.stringify(value);
    return SEALED.has(name) ? await sealed(text, contextOf(id, name)) : text;
  }

  async function secretOf(id: string, { secret, ...rest }: EndpointSecret): Promise<StoredSecret> {
    return { ...rest, sealed: await sealed(secret, contextOf(id, 'secret')) };
  }

  async function encoded(endpoint: Endpoint): Promise<string> {
    const { id, secrets } = endpoint;
    const given = FIELDS.filter((name) => endpoint[name] !== undefined);
    const fields = given.map(
      async (name) => [name, await fieldOf(id, name, endpoint[name])] as const,
    );
    const [sealedFields, sealedSecrets] = await Promise.all([
      Promise.all(fields),
      Promise.all(secrets.map((secret) => secretOf(id, secret))),
    ]);
    const record: Stored = {
      v: 1,
      id,
      fields: Object.fromEntries(sealedFields),
      secrets: sealedSecrets,
    };
    return JSON.stringify(record);
  }

  async function decoded(text: string): Promise<Endpoint> {
    const { v, id, fields, secrets = [] } = JSON.parse(text) as Stored;
    if (v !== 1) {
      throw new WebhookError(
        'ERR_WEBHOOKS_STORE_FAILED',
        'a stored endpoint has a format that this version does not know',
      );
    }
    const opening = Object.entries(fields).map(async ([name, field]) => {
      const json = SEALED.has(name) ? await opened(field, contextOf(id, name)) : field;
      return [name, JSON.parse(json)] as const;
    });
    const unsealing = secrets.map(async ({ sealed: secret, ...rest }) => ({
      secret: await opened(secret, contextOf(id, 'secret')),
      ...rest,
    }));
    // Together, so that none that fails is left alone.
    const [entries, plain] = await Promise.all([Promise.all(opening), Promise.all(unsealing)]);
    return { id, secrets: plain, ...(Object.fromEntries(entries) as Pick<Endpoint, Field>) };
  }

  return {
    async get(id) {
      const text = await getScript(redis, [keys[0]], [id], call);
      return text === null ? undefined : await decoded(text);
    },
    async put(endpoint) {
      await putScript(redis, keys, [endpoint.id, await encoded(endpoint)], call);
    },
    create: async (endpoint) =>
      (await createScript(redis, keys, [endpoint.id, await encoded(endpoint)], call)) === 1,
    async update(id, changes) {
      const given = FIELDS.filter((name) => name !== 'createdAtMs' && Object.hasOwn(changes, name));
      const fields = given.map(async (name) => {
        const value = changes[name as keyof EndpointChanges];
        return [name, value === undefined ? false : await fieldOf(id, name, value)] as const;
      });
      const change = JSON.stringify(Object.fromEntries(await Promise.all(fields)));
      const text = await updateScript(redis, keys, [id, change], call);
      return text === null ? undefined : await decoded(text);
    },
    async rotateSecret(id, { secret, atMs, overlapEndsAtMs }) {
      const current = JSON.stringify(await secretOf(id, { secret }));
      const args = [id, current, atMs, overlapEndsAtMs, MAX_SECRETS] as const;
      const text = await rotateScript(redis, [keys[0]], args, call);
      if (text === 'not_found' || text === 'too_many') return { status: text };
      return { status: 'rotated', endpoint: await decoded(text) };
    },
    delete: async (id) => (await deleteScript(redis, keys, [id], call)) === 1,
    list: async () =>
      await Promise.all((await listScript(redis, [keys[0]], [], call)).map(decoded)),
    matching: async (type) => {
      const filters = filtersFor(type);
      return await matchingScript(redis, [keys[1]], [JSON.stringify(filters)], call);
    },
  };
}

type Field = Exclude<keyof Endpoint, 'id' | 'secrets'>;

const FIELDS: readonly Field[] = [
  'url',
  'types',
  'headers',
  'fifo',
  'concurrency',
  'maxPerSecond',
  'tls',
  'createdAtMs',
];
/** Paths of webhook URLs often hold tokens; and whoever can write to Redis must not choose where events go. */
const SEALED: ReadonlySet<string> = new Set(['url', 'headers', 'tls']);

type StoredSecret = Omit<EndpointSecret, 'secret'> & { readonly sealed: string };

interface Stored {
  readonly v: number;
  readonly id: string;
  /** JSON, or sealed JSON. */
  readonly fields: Readonly<Record<string, string>>;
  readonly secrets?: readonly StoredSecret[];
}

const getScript = script<readonly [id: string], string | null>(
  `return redis.call('HGET', KEYS[1], ARGV[1])`,
  { keys: 1 },
);

const listScript = script<readonly [], readonly string[]>(`return redis.call('HVALS', KEYS[1])`, {
  keys: 1,
});

// The sets' names begin with KEYS[2], so they are in its slot.
const recording = `
local function typesOf(text)
  return text and cjson.decode(cjson.decode(text).fields.types or '[]') or {}
end
local function write(keys, id, before, after)
  for _, filter in ipairs(typesOf(before)) do redis.call('SREM', keys[2] .. filter, id) end
  for _, filter in ipairs(typesOf(after)) do redis.call('SADD', keys[2] .. filter, id) end
  if after then redis.call('HSET', keys[1], id, after) else redis.call('HDEL', keys[1], id) end
end
-- An empty table would come out as an object.
local function encode(record)
  if record.secrets and #record.secrets == 0 then record.secrets = nil end
  return cjson.encode(record)
end
`;
const recorded = { keys: 2, prelude: recording } as const;

const putScript = script<readonly [id: string, record: string], null>(
  `write(KEYS, ARGV[1], redis.call('HGET', KEYS[1], ARGV[1]), ARGV[2])`,
  recorded,
);

const createScript = script<readonly [id: string, record: string], 0 | 1>(
  `
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then return 0 end
write(KEYS, ARGV[1], nil, ARGV[2])
return 1
`,
  recorded,
);

const updateScript = script<readonly [id: string, change: string], string | null>(
  `
local before = redis.call('HGET', KEYS[1], ARGV[1])
if not before then return nil end
local record = cjson.decode(before)
for name, field in pairs(cjson.decode(ARGV[2])) do record.fields[name] = field or nil end
local after = encode(record)
write(KEYS, ARGV[1], before, after)
return after
`,
  recorded,
);

const rotateScript = script<
  readonly [id: string, current: string, atMs: number, overlapEndsAtMs: number, most: number],
  string
>(
  `
local before = redis.call('HGET', KEYS[1], ARGV[1])
if not before then return 'not_found' end
local record = cjson.decode(before)
local at, overlapEnds = tonumber(ARGV[3]), tonumber(ARGV[4])
local secrets = { cjson.decode(ARGV[2]) }
for _, old in ipairs(record.secrets or {}) do
  old.expiresAtMs = math.min(old.expiresAtMs or overlapEnds, overlapEnds)
  if old.expiresAtMs > at then secrets[#secrets + 1] = old end
end
if #secrets > tonumber(ARGV[5]) then return 'too_many' end
record.secrets = secrets
local after = cjson.encode(record)
redis.call('HSET', KEYS[1], ARGV[1], after)
return after
`,
  { keys: 1 },
);

const deleteScript = script<readonly [id: string], 0 | 1>(
  `
local before = redis.call('HGET', KEYS[1], ARGV[1])
if not before then return 0 end
write(KEYS, ARGV[1], before, nil)
return 1
`,
  recorded,
);

const matchingScript = script<readonly [filters: string], readonly string[]>(
  `
local sets = {}
for i, filter in ipairs(cjson.decode(ARGV[1])) do sets[i] = KEYS[1] .. filter end
return redis.call('SUNION', unpack(sets))
`,
  { keys: 1 },
);
