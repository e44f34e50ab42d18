import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { egressAgent } from '@countersign/egress';
import { chain, type Verdict } from '@countersign/guard';
import { node } from '@countersign/guard/node';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { receiverGuard, webhookGuard } from '../src/guard.ts';
import {
  createReceiver,
  createSender,
  createSigner,
  createVerifier,
  generateSecret,
  memoryReplayStore,
  type Sender,
} from '../src/index.ts';

const secret = generateSecret();
const verifier = createVerifier({ secrets: secret });
const agent = egressAgent({ allow: ['http://127.0.0.0/8'] });
let server: Server | undefined;
let sender: Sender;

beforeEach(() => {
  const signer = createSigner({ secrets: secret });
  sender = createSender({ signer, egress: agent, schedule: [0, 10, 10], jitter: 0 });
});
afterEach(async () => {
  await sender.close();
  server?.closeAllConnections();
  server?.close();
});

async function listen(listener: RequestListener): Promise<string> {
  server = createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/hooks`;
}

test('a handler behind webhookGuard sees an event again until it answers 2xx, and then never more', async () => {
  const seen: [string, unknown][] = [];
  const guards = chain().use('webhook', webhookGuard({ verifier, store: memoryReplayStore() }));
  const endpoint = await listen(
    node(guards, (_request, response, { webhook }) => {
      seen.push([webhook.id, webhook.payload]);
      response.writeHead(seen.length === 1 ? 500 : 204).end();
    }),
  );
  const event = { id: 'evt_1', payload: { amount: 42 } };
  const first = await sender.deliver({ endpoint, event });
  expect(first.attempts.map(({ status }) => status)).toEqual([500, 204]);
  const second = await sender.deliver({ endpoint, event });
  expect(second.attempts.map(({ status }) => status)).toEqual([200]);
  expect(seen).toEqual([
    ['evt_1', { amount: 42 }],
    ['evt_1', { amount: 42 }],
  ]);
});

test('a limit in front of a receiver keeps it from looking at anything, and its sender comes back', async () => {
  const handled: string[] = [];
  const received: unknown[] = [];
  const note = (message: unknown) => void received.push(message);
  subscribe('countersign:webhooks:received', note);
  const receiver = createReceiver({
    verifier,
    store: memoryReplayStore(),
    handle: ({ id }) => void handled.push(id),
  });
  let seen = 0;
  const limit = (): Verdict<undefined> => {
    seen += 1;
    if (seen > 1) return { pass: true, context: undefined };
    return { pass: false, status: 429, headers: [['retry-after', '0']] };
  };
  const guards = chain().use('limit', limit).use('webhook', receiverGuard(receiver));
  const endpoint = await listen(node(guards, () => undefined));
  const { attempts } = await sender.deliver({ endpoint, event: { id: 'evt_1', payload: {} } });
  await receiver.close();
  unsubscribe('countersign:webhooks:received', note);
  expect(attempts.map(({ status }) => status)).toEqual([429, 202]);
  expect(handled).toEqual(['evt_1']);
  expect(received).toMatchObject([{ outcome: 'accepted', id: 'evt_1' }]);
});

test('a receiver behind receiverGuard answers by itself', async () => {
  const handled: string[] = [];
  const receiver = createReceiver({
    verifier,
    store: memoryReplayStore(),
    handle: ({ id }) => void handled.push(id),
  });
  const guards = chain().use('webhook', receiverGuard(receiver));
  const endpoint = await listen(
    node(guards, () => {
      throw new Error('must not be reached');
    }),
  );
  const event = { id: 'evt_1', payload: {} };
  const statuses = [];
  for (let times = 0; times < 2; times += 1) {
    const { attempts } = await sender.deliver({ endpoint, event });
    statuses.push(...attempts.map(({ status }) => status));
  }
  expect(statuses).toEqual([202, 200]);
  const huge = { id: 'evt_2', body: Buffer.alloc(2_000_000) };
  expect((await sender.attempt({ endpoint, event: huge })).verdict).toBe('failed');
  await receiver.close();
  expect(handled).toEqual(['evt_1']);
});
