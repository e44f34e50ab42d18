import { type RedisClient, script } from '@countersign/redis';
import { WebhookError } from '../errors.ts';
import type { PreparedEvent } from '../event.ts';
import type { Vault } from '../seal.ts';

/** Keeps each event's payload once, however many endpoints it goes to, for as long as a delivery needs it. */
export interface Payloads {
  /**
   * Stores the payload with `references` deliveries that need it; adds them when it is there already.
   * @returns whether it was not: what was counted before, if anything, went with it.
   */
  put(event: PreparedEvent, references: number): Promise<boolean>;
  /**
   * `undefined` when it is not kept any more.
   * @throws WebhookError `ERR_WEBHOOKS_STORE_FAILED` when no key opens it.
   */
  get(id: string): Promise<PreparedEvent | undefined>;
  /** One delivery more needs it; `false` when it is gone. */
  retain(id: string): Promise<boolean>;
  /** So many deliveries need it no longer. */
  release(id: string, references: number): Promise<void>;
}

export interface PayloadsOptions {
  readonly prefix: string;
  /** How long a payload is kept at most, after it was published or a delivery began to need it again. */
  readonly keepMs: number;
  /** How long after the last delivery needed it. */
  readonly historyMs: number;
  readonly vault: Vault | undefined;
  readonly timeoutMs: number;
}

/** Fan-out reads one payload many times in a row. Not for long: an id that is forgotten may stand for something else then. */
const CACHE_MS = 1000;
const CACHE_ENTRIES = 256;
const CACHE_BYTES = 8_388_608;
const FORMAT = 1;
const SEALED = 0x80;

/** Never shortens a life: other deliveries may have been promised more. */
const keeping = `
local function keep(key, ms)
  if redis.call('PTTL', key) < tonumber(ms) then redis.call('PEXPIRE', key, ms) end
end
`;

const putScript = script<readonly [body: Uint8Array, references: number, keepMs: number], 0 | 1>(
  `
local made = redis.call('HSETNX', KEYS[1], 'd', ARGV[1])
keep(KEYS[1], ARGV[3])
redis.call('HINCRBY', KEYS[1], 'n', ARGV[2])
return made
`,
  { keys: 1, prelude: keeping },
);

const getScript = script<readonly [], Buffer | null>(
  `
local replies = {}
for call, key in ipairs(KEYS) do replies[call] = redis.pcall('HGET', key, 'd') end
return replies
`,
  { keys: 1, argsPerCall: 0, replies: 'bytes' },
);

const retainScript = script<readonly [keepMs: number], 0 | 1>(
  `
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HINCRBY', KEYS[1], 'n', 1)
keep(KEYS[1], ARGV[1])
return 1
`,
  { keys: 1, prelude: keeping },
);

const releaseScript = script<readonly [references: number, historyMs: number], number>(
  `
local replies = {}
for call, key in ipairs(KEYS) do
  local historyMs = ARGV[2 * call]
  local left = redis.pcall('HINCRBY', key, 'n', -ARGV[2 * call - 1])
  if type(left) == 'number' and left <= 0 then
    -- Below 0: it was gone, as a rule, and what counts for it has just been made again.
    local gone = historyMs == '0' or left < 0 and redis.call('HEXISTS', key, 'd') == 0
    if gone then redis.call('DEL', key) else redis.call('PEXPIRE', key, historyMs) end
    left = 0
  end
  replies[call] = left
end
return replies
`,
  { keys: 1, argsPerCall: 2 },
);

export function createPayloads(redis: RedisClient, options: PayloadsOptions): Payloads {
  const { prefix, keepMs, historyMs, vault, timeoutMs } = options;
  const call = { timeoutMs };
  const keyOf = (id: string): string => `${prefix}:payload:{${id}}`;
  const cache = new Map<
    string,
    { readonly loading: Promise<PreparedEvent | undefined>; readonly readAt: number }
  >();
  let cachedBytes = 0;

  async function load(id: string): Promise<PreparedEvent | undefined> {
    const stored = await getScript(redis, [keyOf(id)], [], call);
    if (!stored) return undefined;
    const event = await decoded(id, stored, vault, keyOf(id));
    cachedBytes += event.body.byteLength;
    return event;
  }

  return {
    async put(event, references) {
      const stored = await encoded(event, vault, keyOf(event.id));
      const args = [stored, references, keepMs] as const;
      return (await putScript(redis, [keyOf(event.id)], args, call)) === 1;
    },
    async get(id) {
      const known = cache.get(id);
      if (known && performance.now() - known.readAt < CACHE_MS) return await known.loading;
      if (cache.size >= CACHE_ENTRIES || cachedBytes > CACHE_BYTES) {
        cache.clear();
        cachedBytes = 0;
      }
      const loading = load(id);
      cache.set(id, { loading, readAt: performance.now() });
      const event = await loading.catch((error: unknown) => {
        cache.delete(id);
        throw error;
      });
      if (!event) cache.delete(id);
      return event;
    },
    retain: async (id) => (await retainScript(redis, [keyOf(id)], [keepMs], call)) === 1,
    async release(id, references) {
      const left = await releaseScript(redis, [keyOf(id)], [references, historyMs], call);
      if (left <= 0) cache.delete(id);
    },
  };
}

/** One byte (version and whether it is sealed), then the length of the metadata, the metadata, and the body. */
async function encoded(
  event: PreparedEvent,
  vault: Vault | undefined,
  context: string,
): Promise<Buffer> {
  const { type, contentType, body } = event;
  const meta = Buffer.from(JSON.stringify({ type, contentType }), 'utf8');
  const length = Buffer.alloc(2);
  length.writeUInt16BE(meta.byteLength);
  const plain = Buffer.concat([length, meta, body]);
  if (!vault) return Buffer.concat([Buffer.of(FORMAT), plain]);
  return Buffer.concat([Buffer.of(FORMAT | SEALED), await vault.seal(plain, context)]);
}

async function decoded(
  id: string,
  stored: Buffer,
  vault: Vault | undefined,
  context: string,
): Promise<PreparedEvent> {
  const format = stored[0] ?? 0;
  if ((format & ~SEALED) !== FORMAT || (format & SEALED && !vault)) {
    throw new WebhookError(
      'ERR_WEBHOOKS_STORE_FAILED',
      'a stored payload has a format that this version does not know, or is encrypted and there are no encryptionKeys',
    );
  }
  const rest = stored.subarray(1);
  const plain = format & SEALED && vault ? await vault.open(rest, context) : rest;
  const metaEnd = 2 + plain.readUInt16BE(0);
  const meta = JSON.parse(plain.toString('utf8', 2, metaEnd)) as {
    readonly type?: string;
    readonly contentType: string;
  };
  return { id, type: meta.type, contentType: meta.contentType, body: plain.subarray(metaEnd) };
}
