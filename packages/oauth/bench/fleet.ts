import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { clientCredentials, privateKeyJwt } from '@countersign/oauth';
import { redisTokenStore } from '@countersign/oauth/redis';
import { expectAtLeast } from '@countersign/testkit/bench';
import { startOAuthServer } from '@countersign/testkit/oauth-server';
import { startRedis } from '@countersign/testkit/redis';

const PROCESSES = 8;

/** Real processes, a real Redis and a real authorization server. */
export async function benchFleet(): Promise<void> {
  const server = await startOAuthServer({ defaultResource: 'https://api.example.com' });
  const redis = await startRedis();
  const encryptionKey = randomBytes(32).toString('base64url');
  const { clientId, privateKey, keyId } = server.clients.service;
  const options = JSON.stringify({
    issuer: server.issuer,
    redisPort: redis.port,
    encryptionKey,
    callers: 100,
    client: { clientId, key: privateKey.export({ format: 'jwk' }), keyId },
  });
  const script = fileURLToPath(new URL('../test/fleet-worker.ts', import.meta.url));
  const workers = Array.from({ length: PROCESSES }, () => {
    const child = spawn(process.execPath, [script, options], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    return { child, lines: createInterface({ input: child.stdout }) };
  });
  await Promise.all(workers.map(({ lines }) => once(lines, 'line')));
  const answers = workers.map(({ lines }) => once(lines, 'line'));
  const startedAt = performance.now();
  for (const { child } of workers) child.stdin.write('\n');
  await Promise.all(answers);
  const ms = Math.round(performance.now() - startedAt);
  for (const { child } of workers) child.stdin.end();
  const asked = server.count('token');
  console.log(`\n${PROCESSES} cold processes on one Redis: ${asked} request(s), ${ms} ms`);
  expectAtLeast('processes per request', PROCESSES / asked, PROCESSES);

  const client = redis.client();
  const source = clientCredentials({
    issuer: server.issuer,
    allowInsecureLoopback: true,
    clientId,
    clientAuth: privateKeyJwt(privateKey, { keyId }),
    store: redisTokenStore(client, { encryptionKeys: [encryptionKey], timeoutMs: 250 }),
  });
  let failed = 0;
  let done = 0;
  for (; done < 60; done += 1) {
    if (done === 20) await redis.kill();
    if (done === 40) await redis.restart();
    await source.getToken({ forceRenewal: true }).catch(() => {
      failed += 1;
    });
  }
  console.log(`Redis killed and restarted during ${done} renewals: ${failed} failed`);
  if (failed > 0) process.exitCode = 1;
  // A client that is closed while it reconnects would never say that it ended.
  if (client.status !== 'ready') await once(client, 'ready');
  await redis.stop();
  await server.stop();
}
