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
const any = (options: object): never => options as never;

describe('an option that there is not', () => {
  test.each<[name: string, make: () => unknown]>([
    ['secret', () => createSigner(any({ secrets, secret: 'x' }))],
    ['secret', () => createSigner(any({ secrets: async () => secrets, secret: 'x' }))],
    ['toleranceSecond', () => createVerifier(any({ secrets, toleranceSecond: 5 }))],
    ['schema', () => createVerifier(any({ secrets: async () => secrets, schema: 5 }))],
    [
      'onStoreErorr',
      () => createReceiver(any({ ...admission, handle() {}, onStoreErorr: 'open' })),
    ],
    ['completeOn', () => createReceiver(any({ ...admission, handle() {}, completeOn() {} }))],
    ['handle', () => webhookGuard(any({ ...admission, handle() {} }))],
    ['schedul', () => createSender(any({ schedul: [0] }))],
    ['maxEntry', () => memoryReplayStore(any({ maxEntry: 5 }))],
    ['ttlMs', () => redisReplayStore(connection, any({ ttlMs: 5 }))],
    [
      'encryptionKey',
      () => redisEndpointStore(connection, any({ encryptionKeys, encryptionKey: [] })),
    ],
    ['assertAlowed', () => createEndpoints(any({ store: endpoints, assertAlowed() {} }))],
    ['encryptionKey', () => createWebhookQueue(any({ connection, endpoints, encryptionKey: [] }))],
    [
      'breaker.failure',
      () => createWebhookQueue(any({ connection, endpoints, breaker: { failure: 5 } })),
    ],
    ['encryptionKey', () => createInbox(any({ connection, handle() {}, encryptionKey: [] }))],
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
