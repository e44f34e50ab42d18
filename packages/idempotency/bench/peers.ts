import { IdempotencyConfig, makeIdempotent } from '@aws-lambda-powertools/idempotency';
import { CachePersistenceLayer } from '@aws-lambda-powertools/idempotency/cache';
import type { CacheClient } from '@aws-lambda-powertools/idempotency/cache/types';
import { Idempotency } from '@node-idempotency/core';
import { MemoryStorageAdapter } from '@node-idempotency/storage-adapter-memory';
import { idempotency as expressIdempotency, type IdempotencyResource } from 'express-idempotency';
import type { Redis } from 'ioredis';

/** Takes a request with this key all the way to its answer: the handler's, or the stored one. */
export type Contender = (key: string) => Promise<unknown>;

const body = { amount: 100, currency: 'EUR', reference: 'order-1234' };
const answer = { id: 'pay_1', amount: 100, status: 'succeeded' };

export function nodeIdempotency(): Contender {
  const peer = new Idempotency(new MemoryStorageAdapter());
  return async (key) => {
    const request = {
      headers: { 'idempotency-key': key },
      path: '/payments',
      method: 'POST',
      body,
    };
    const stored = await peer.onRequest(request);
    if (stored) return stored;
    await peer.onResponse(request, { body: answer, additional: { statusCode: 201 } });
    return answer;
  };
}

/**
 * The middleware without Express around it: what it reads and writes of the request and response, and nothing else.
 * A `Map` stands in for its own store, which is a list that it searches from the start.
 */
export function expressIdempotencyMiddleware(): Contender {
  const resources = new Map<string, IdempotencyResource>();
  const dataAdapter = {
    findByIdempotencyKey: async (key: string) => resources.get(key) as IdempotencyResource,
    create: async (resource: IdempotencyResource) => {
      resources.set(resource.idempotencyKey, resource);
    },
    update: async (resource: IdempotencyResource) => {
      resources.set(resource.idempotencyKey, resource);
    },
    delete: async (key: string) => {
      resources.delete(key);
    },
  };
  const middleware = expressIdempotency({ dataAdapter }) as unknown as (
    request: object,
    response: object,
    next: () => void,
  ) => Promise<void>;
  return async (key) => {
    const headers: Record<string, string> = { 'idempotency-key': key };
    const request = {
      headers,
      url: '/payments',
      method: 'POST',
      body,
      query: {},
      get: (name: string) => headers[name],
    };
    const response = {
      statusCode: 201,
      setHeader() {},
      getHeaders: () => ({ 'content-type': 'application/json' }),
      status() {
        return response;
      },
      send: (sent: unknown) => sent,
    };
    await middleware(request, response, () => {});
    return request.get('x-hit') ? undefined : response.send(answer);
  };
}

/** Without payload validation: on the cache layer a replay that is validated fails, for the hash is not kept. */
export function powertools(client: CacheClient): Contender {
  const config = new IdempotencyConfig({ eventKeyJmesPath: 'key' });
  config.registerLambdaContext({ getRemainingTimeInMillis: () => 30_000 } as never);
  const persistenceStore = new CachePersistenceLayer({ client });
  const run = makeIdempotent(async (_event: object) => answer, { persistenceStore, config });
  return async (key) => await run({ key, body });
}

/** The least that its cache layer needs. */
export function mapClient(): CacheClient {
  const values = new Map<unknown, unknown>();
  return {
    get: async (name) => (values.get(name) as string | undefined) ?? null,
    async set(name, value, options) {
      if ((options as { NX?: boolean }).NX && values.has(name)) return null;
      values.set(name, value);
      return 'OK';
    },
    del: async (names) => names.filter((name) => values.delete(name)).length,
  };
}

export function ioredisClient(redis: Redis): CacheClient {
  return {
    get: (name) => redis.get(name),
    set(name, value, options) {
      const { EX, NX } = options as { EX: number; NX?: boolean };
      return NX
        ? redis.set(name as string, value as string, 'EX', EX, 'NX')
        : redis.set(name as string, value as string, 'EX', EX);
    },
    del: (names) => redis.del(...names),
  };
}
