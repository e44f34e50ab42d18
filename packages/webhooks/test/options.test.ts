import { Redis } from 'ioredis';
import { afterAll, describe, expect, test } from 'vitest';
import { createInbox, createWebhookQueue } from '../src/bullmq.ts';
import { webhookGuard } from '../src/guard.ts';
import {
  createEndpoints,
  createReceiver,
  createSender,
  createSigner,
  createVerifier,
  generateSecret,
  memoryEndpointStore,
  memoryReplayStore,
  type SenderOptions,
} from '../src/index.ts';
import { redisEndpointStore, redisReplayStore } from '../src/redis.ts';

const connection = new Redis({ lazyConnect: true, maxRetriesPerRequest: null });
afterAll(() => connection.disconnect());

const secrets = generateSecret();
const endpoints = memoryEndpointStore();
const admission = { verifier: createVerifier({ secrets }), store: memoryReplayStore() };
const encryptionKeys = [new Uint8Array(32)];
/** As JavaScript has it, without types. */
const untyped = (options: object): never => options as never;

describe('an option that there is not', () => {
  test.each<[name: string, make: () => unknown]>([
    ['secret', () => createSigner(untyped({ secrets, secret: 'x' }))],
    ['secret', () => createSigner(untyped({ secrets: async () => secrets, secret: 'x' }))],
    ['toleranceSecond', () => createVerifier(untyped({ secrets, toleranceSecond: 5 }))],
    ['schema', () => createVerifier(untyped({ secrets: async () => secrets, schema: 5 }))],
    [
      'onStoreErorr',
      () => createReceiver(untyped({ ...admission, handle() {}, onStoreErorr: 'open' })),
    ],
    ['completeOn', () => createReceiver(untyped({ ...admission, handle() {}, completeOn() {} }))],
    ['handle', () => webhookGuard(untyped({ ...admission, handle() {} }))],
    ['schedul', () => createSender(untyped({ schedul: [0] }))],
    ['maxEntry', () => memoryReplayStore(untyped({ maxEntry: 5 }))],
    ['ttlMs', () => redisReplayStore(connection, untyped({ ttlMs: 5 }))],
    [
      'encryptionKey',
      () => redisEndpointStore(connection, untyped({ encryptionKeys, encryptionKey: [] })),
    ],
    ['assertAlowed', () => createEndpoints(untyped({ store: endpoints, assertAlowed() {} }))],
    [
      'encryptionKey',
      () => createWebhookQueue(untyped({ connection, endpoints, encryptionKey: [] })),
    ],
    [
      'breaker.failure',
      () => createWebhookQueue(untyped({ connection, endpoints, breaker: { failure: 5 } })),
    ],
    ['encryptionKey', () => createInbox(untyped({ connection, handle() {}, encryptionKey: [] }))],
  ])('%s', (name, make) => {
    expect(make).toThrow(new TypeError(`${name}: there is no such option`));
  });
});

test('each that there is may be given', () => {
  const admitted = {
    ...admission,
    schema: {
      '~standard': { version: 1, vendor: 'test', validate: (value: unknown) => ({ value }) },
    },
    source: 'a',
    maxBodyBytes: 1,
    leaseMs: 1000,
    handleTimeoutMs: 1,
    ttlMs: 86_400_000,
    whileProcessing: 'accept',
    onStoreError: 'open',
  } as const;
  const sending: Required<Omit<SenderOptions, 'signer' | 'egress' | 'now' | 'random'>> = {
    attemptTimeoutMs: 1,
    maxResponseBytes: 1,
    excerptBytes: 1,
    isPermanent: () => false,
    schedule: [0],
    jitter: 0,
    maxRetryAfterMs: 1,
    sleep: async () => {},
  };
  expect(() => {
    createReceiver({ ...admitted, maxInFlight: 1, onError() {}, handle() {}, acknowledge: 'last' });
    createReceiver({ ...admitted, handOver: async () => {} });
    webhookGuard({ ...admitted, completeOn: () => true });
    createSender({ ...sending, now: Date.now, random: Math.random });
    redisReplayStore(connection, { prefix: 'a', timeoutMs: 1 });
    redisEndpointStore(connection, { encryptionKeys, prefix: 'a', timeoutMs: 1 });
    createEndpoints({ store: endpoints, assertAllowed() {}, now: Date.now });
  }).not.toThrow();
});
