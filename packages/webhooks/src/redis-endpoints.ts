import { type RedisClient, script } from '@countersign/redis';
import { type Endpoint, type EndpointStore, filtersFor } from './endpoint-store.ts';
import { WebhookError } from './errors.ts';
import { createSeal } from './seal.ts';

/** Options of {@link redisEndpointStore}. */
export interface RedisEndpointStoreOptions {
  /**
   * Encrypt secrets, custom headers and client certificates, so that Redis never holds them readable: keys of 32
   * bytes, the first encrypts, all decrypt.
   */
  readonly encryptionKeys: readonly Uint8Array[];
  /** Begins every key; default `webhooks`. */
  readonly prefix?: string;
  /** How long an operation may take, in milliseconds; default 1000. */
  readonly timeoutMs?: number;
}

/**
 * Keeps endpoints in Redis, Sentinel or Cluster: a hash of records and one set per event-type filter, in one slot.
 * @throws TypeError when there is no encryption key, or one is not of 32 bytes.
 */
export function redisEndpointStore(
  redis: RedisClient,
  options: RedisEndpointStoreOptions,
): EndpointStore {
  const { encryptionKeys, prefix = 'webhooks', timeoutMs = 1000 } = options;
  const seal = createSeal(encryptionKeys);
  const call = { timeoutMs };
  const base = `${prefix}:{endpoints}`;
  const keys = [`${base}:records`, `${base}:type:`] as const;

  /** What is worth protecting is sealed, bound to the endpoint it belongs to. */
  function encoded({ id, secrets, headers, tls, ...open }: Endpoint): string {
    const plain = Buffer.from(JSON.stringify({ secrets, headers, tls }), 'utf8');
    const sealed = seal.seal(plain, `${base}:${id}`).toString('base64');
    return JSON.stringify({ ...open, v: 1, id, sealed });
  }

  function decoded(text: string): Endpoint {
    const { v, sealed, ...open } = JSON.parse(text) as Stored;
    if (v !== 1) {
      throw new WebhookError(
        'ERR_WEBHOOKS_STORE_FAILED',
        'a stored endpoint has a format that this version does not know',
      );
    }
    const plain = seal.open(Buffer.from(sealed, 'base64'), `${base}:${open.id}`);
    return { ...open, ...(JSON.parse(plain.toString('utf8')) as Sealed) };
  }

  return {
    async get(id) {
      const text = await getScript(redis, [keys[0]], [id], call);
      return text === null ? undefined : decoded(text);
    },
    async put(endpoint) {
      await putScript(redis, keys, [endpoint.id, encoded(endpoint)], call);
    },
    delete: async (id) => (await putScript(redis, keys, [id, ''], call)) === 1,
    list: async () => (await listScript(redis, [keys[0]], [], call)).map(decoded),
    matching: async (type) => {
      const filters = filtersFor(type);
      return await matchingScript(redis, [keys[1]], [JSON.stringify(filters)], call);
    },
  };
}

type Sealed = Pick<Endpoint, 'secrets' | 'headers' | 'tls'>;
type Stored = Omit<Endpoint, keyof Sealed> & { readonly v: number; readonly sealed: string };

const getScript = script<readonly [id: string], string | null>(
  `return redis.call('HGET', KEYS[1], ARGV[1])`,
  { keys: 1 },
);

const listScript = script<readonly [], readonly string[]>(`return redis.call('HVALS', KEYS[1])`, {
  keys: 1,
});

// The sets' names begin with KEYS[2], so they are in its slot.
const putScript = script<readonly [id: string, record: string], 0 | 1>(
  `
local id, record = ARGV[1], ARGV[2]
local before = redis.call('HGET', KEYS[1], id)
if before then
  for _, filter in ipairs(cjson.decode(before).types) do redis.call('SREM', KEYS[2] .. filter, id) end
end
if record == '' then return redis.call('HDEL', KEYS[1], id) end
for _, filter in ipairs(cjson.decode(record).types) do redis.call('SADD', KEYS[2] .. filter, id) end
redis.call('HSET', KEYS[1], id, record)
return 1
`,
  { keys: 2 },
);

const matchingScript = script<readonly [filters: string], readonly string[]>(
  `
local sets = {}
for i, filter in ipairs(cjson.decode(ARGV[1])) do sets[i] = KEYS[1] .. filter end
return redis.call('SUNION', unpack(sets))
`,
  { keys: 1 },
);
