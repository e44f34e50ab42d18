import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { egressAgent } from '@countersign/egress';
import { startFaultProxy } from '@countersign/testkit/fault-proxy';
import { startRedis } from '@countersign/testkit/redis';
import { startScriptedServer } from '@countersign/testkit/scripted-server';
import { Redis } from 'ioredis';
import { expect, test } from 'vitest';
import { createInbox, createWebhookQueue } from '../src/bullmq.ts';
import { generateSecret, memoryEndpointStore } from '../src/index.ts';
import { until } from './queue-fixture.ts';

/** A Redis behind a proxy that can go silent. */
async function fragileRedis() {
  const server = await startRedis();
  const proxy = await startFaultProxy({ port: server.port });
  const connection = new Redis(proxy.port, proxy.host, { maxRetriesPerRequest: null });
  connection.on('error', () => undefined);
  return {
    connection,
    proxy,
    async stop() {
      connection.disconnect();
      await proxy.stop();
      await server.stop();
    },
  };
}

// Each waits for its own deadlines, not for the processor.
test.concurrent.each(['silent', 'gone'])(
  'closes the queue and its worker while Redis is %s',
  {
    timeout: 30_000,
  },
  async (how) => {
    const { connection, proxy, stop } = await fragileRedis();
    const http = await startScriptedServer();
    const egress = egressAgent({ allow: ['http://127.0.0.0/8'] });
    const endpoints = memoryEndpointStore();
    await endpoints.put({
      id: 'a',
      url: `${http.origin}/a`,
      secrets: [{ secret: generateSecret() }],
      types: ['*'],
      createdAtMs: 0,
    });
    const queue = createWebhookQueue({
      connection,
      endpoints,
      egress,
      shards: 1,
      attemptTimeoutMs: 100,
      timeoutMs: 2000,
    });
    queue.worker();
    await queue.publish({ payload: {} });
    await until(() => http.requests.length === 1);
    await queue.publish({ payload: {} });
    proxy.set('both', { blackhole: true });
    if (how === 'gone') {
      proxy.refuse();
      proxy.reset();
    }
    await queue.close();
    expect((await queue.stats().catch((error: unknown) => error)) as object).toMatchObject({
      name: 'StoreUnavailableError',
    });
    await egress.close();
    await http.stop();
    await stop();
  },
);

test.concurrent('closes the inbox, and refuses what it cannot store, while Redis is silent', {
  timeout: 30_000,
}, async () => {
  const { connection, proxy, stop } = await fragileRedis();
  const handled: string[] = [];
  const inbox = createInbox({
    connection,
    timeoutMs: 2000,
    handle: ({ id }) => void handled.push(id),
  });
  const webhook = {
    id: 'a',
    source: 's',
    timestampMs: undefined,
    payload: 1,
    body: '1',
    keyIndex: 0,
  };
  inbox.worker();
  await inbox.add(webhook);
  await until(() => handled.length === 1);
  proxy.set('both', { blackhole: true });
  await expect(inbox.add({ ...webhook, id: 'b' })).rejects.toMatchObject({
    name: 'StoreUnavailableError',
  });
  await inbox.close();
  await stop();
});

test.concurrent.each(['from the start', 'later'])(
  'lets the process end once queue and inbox are closed, although Redis is silent %s',
  { timeout: 90_000 },
  async (since) => {
    const { proxy, stop } = await fragileRedis();
    if (since === 'from the start') proxy.set('both', { blackhole: true });
    const script = fileURLToPath(new URL('closing-process.ts', import.meta.url));
    const child = fork(script, [String(proxy.port)]);
    const exited = once(child, 'exit');
    await once(child, 'message');
    // Its own connection, and those on which its workers wait for jobs.
    await until(() => proxy.open >= 3);
    proxy.set('both', { blackhole: true });
    child.send('close');
    const patience = setTimeout(() => child.kill('SIGKILL'), 40_000);
    expect(await exited).toEqual([0, null]);
    clearTimeout(patience);
    await stop();
  },
);
