/**
 * One process of a fleet, started by the tests: waits for a line on its input, asks for tokens, writes what it got as
 * one line of JSON. Ends when its input ends.
 */
import { createPrivateKey, type JsonWebKey } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import {
  clientCredentials,
  clientSecretBasic,
  privateKeyJwt,
  refreshToken,
} from '@countersign/oauth';
import { redisTokenStore } from '@countersign/oauth/redis';
import { Redis } from 'ioredis';

export interface WorkerOptions {
  readonly issuer: string;
  readonly tokenEndpoint?: string;
  readonly redisPort: number;
  readonly encryptionKey: string;
  readonly callers: number;
  readonly client: {
    readonly clientId: string;
    /** With this refresh token; without one, client credentials. */
    readonly initial?: string;
    /** Tokens are bound to it. */
    readonly dpopKey?: JsonWebKey;
  } & ({ readonly key: JsonWebKey; readonly keyId: string } | { readonly clientSecret: string });
}

export interface WorkerResult {
  readonly tokens: readonly string[];
  readonly generations: readonly number[];
  readonly failures: readonly string[];
}

const options = JSON.parse(process.argv[2] ?? '') as WorkerOptions;
const { client } = options;
const redis = new Redis({ port: options.redisPort });
redis.on('error', () => {});
await once(redis, 'ready');
// Generous: on a busy machine a deadline that passes would look like a store that is down.
const store = redisTokenStore(redis, {
  encryptionKeys: [options.encryptionKey],
  timeoutMs: 20_000,
});
const common = {
  ...(options.tokenEndpoint
    ? { server: { issuer: options.issuer, token_endpoint: options.tokenEndpoint } }
    : { issuer: options.issuer }),
  allowInsecureLoopback: true,
  resource: 'https://api.example.com',
  scope: 'orders:read',
  store,
};
const importKey = (key: JsonWebKey) => createPrivateKey({ key, format: 'jwk' });
const { clientId, initial, dpopKey } = client;
const who = {
  ...common,
  clientId,
  clientAuth:
    'key' in client
      ? privateKeyJwt(importKey(client.key), { keyId: client.keyId })
      : clientSecretBasic(client.clientSecret),
  ...(dpopKey ? { dpop: { key: importKey(dpopKey) } } : {}),
};
const source = initial === undefined ? clientCredentials(who) : refreshToken({ ...who, initial });

process.stdout.write('ready\n');
for await (const line of createInterface({ input: process.stdin })) {
  const forceRenewal = line === '' ? {} : { forceRenewal: Number(line) };
  const settled = await Promise.allSettled(
    Array.from({ length: options.callers }, () => source.getToken(forceRenewal)),
  );
  const got = settled.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
  const failures = settled.flatMap((one) =>
    one.status === 'rejected' ? [String((one.reason as { code?: string }).code)] : [],
  );
  const result: WorkerResult = {
    tokens: [...new Set(got.map(({ value }) => value))],
    generations: [...new Set(got.map(({ generation }) => generation))],
    failures: [...new Set(failures)],
  };
  process.stdout.write(`${JSON.stringify(result)}\n`);
}
redis.disconnect();
