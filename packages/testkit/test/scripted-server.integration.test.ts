import { Readable } from 'node:stream';
import { Agent, request } from 'undici';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  decompressionBomb,
  drip,
  endlessBody,
  informationalFlood,
  lyingContentLength,
  rawBytes,
  resetAfterHeaders,
  resetMidBody,
  resetOnAccept,
  resetOnHead,
  resetOnRequest,
  respond,
  respondJson,
  retryAfter,
  type ScriptedServer,
  silence,
  stall,
  startScriptedServer,
} from '../src/scripted-server.ts';

let server: ScriptedServer;
let dispatcher: Agent;
beforeEach(async () => {
  server = await startScriptedServer();
  dispatcher = new Agent({ connections: 1 });
});
afterEach(async () => {
  await dispatcher.destroy();
  await server.stop();
});

const get = (path = '/') => request(server.origin + path, { dispatcher });
const post = (body: string, signal?: AbortSignal) =>
  request(server.origin, { dispatcher, method: 'POST', body, ...(signal ? { signal } : {}) });

it('plays one script per request, on one connection while both sides agree, and records what came', async () => {
  server.enqueue(respond({ status: 201, body: 'made' }), respondJson({ a: 1 }));
  const first = await request(server.origin, {
    dispatcher,
    method: 'POST',
    headers: { 'x-twice': ['1', '2'] },
    body: Readable.from([Buffer.from('he'), Buffer.from('llo')]),
  });
  expect([first.statusCode, await first.body.text()]).toEqual([201, 'made']);
  expect(await (await get('/next?q=1')).body.json()).toEqual({ a: 1 });
  expect((await get()).statusCode).toBe(200);
  expect(server.connections).toBe(1);
  expect(server.requests).toMatchObject([
    { method: 'POST', target: '/', headers: { 'x-twice': '1, 2' } },
    { method: 'GET', target: '/next?q=1' },
    { method: 'GET' },
  ]);
  expect(server.requests[0]?.body.toString()).toBe('hello');
  expect(server.requests[0]?.head).toMatch(/^POST \/ HTTP\/1\.1\r\n/);
});

describe('resets', () => {
  it.each([
    ['on accept', resetOnAccept(), '', ''],
    ['on head', resetOnHead(), 'POST', ''],
    ['on request', resetOnRequest(), 'POST', 'x'],
  ])('%s fail the request', async (_, script, method, read) => {
    server.enqueue(script);
    await expect(post('x')).rejects.toMatchObject({
      code: expect.stringMatching(/ECONNRESET|UND_ERR_SOCKET/),
    });
    const [request] = server.requests;
    expect([request?.method, request?.body.toString()]).toEqual([method, read]);
  });

  it.each([
    ['after the headers', resetAfterHeaders(), ''],
    ['in the body', resetMidBody({ body: 'abc' }, 10), 'abc'],
    ['never, but the body ends early', lyingContentLength({ body: 'abc' }, 10), 'abc'],
  ])('%s fail the body', async (_, script, arrived) => {
    server.enqueue(script);
    const { statusCode, body } = await get();
    expect(statusCode).toBe(200);
    let text = '';
    const reading = (async () => {
      for await (const chunk of body) text += String(chunk);
    })();
    await expect(reading).rejects.toThrow();
    expect(text).toBe(arrived);
  });
});

it.each([
  ['silence', silence()],
  ['a stalled upload', stall()],
  ['a dripping head', drip(10_000)],
])('%s lasts until the caller gives up', async (_, script) => {
  server.enqueue(script);
  const aborter = new AbortController();
  const pending = post('x', aborter.signal);
  await expect.poll(() => server.requests.length).toBe(1);
  aborter.abort(new Error('gave up'));
  await expect(pending).rejects.toThrow('gave up');
});

it('drips a whole response', async () => {
  server.enqueue(drip(0, { body: 'slow' }));
  expect(await (await get()).body.text()).toBe('slow');
});

it('never ends a body', async () => {
  server.enqueue(endlessBody());
  const { body } = await get();
  let received = 0;
  for await (const chunk of body) {
    received += (chunk as Buffer).length;
    if (received > 1_000_000) break;
  }
  expect(received).toBeGreaterThan(1_000_000);
});

it('sends bombs', async () => {
  server.enqueue(decompressionBomb(1_000_000), decompressionBomb(1_000_000, 'br'));
  for (const encoding of ['gzip', 'br']) {
    const { headers, body } = await get();
    expect(headers['content-encoding']).toBe(encoding);
    expect((await body.bytes()).length).toBeLessThan(2000);
  }
});

it('floods with informational responses', async () => {
  server.enqueue(informationalFlood(50, respond({ body: 'at last' })));
  const seen: number[] = [];
  const { body } = await request(server.origin, {
    dispatcher,
    onInfo: ({ statusCode }: { statusCode: number }) => seen.push(statusCode),
  });
  expect(await body.text()).toBe('at last');
  expect(seen).toEqual(Array(50).fill(103));
});

it('says nonsense', async () => {
  server.enqueue(retryAfter('soon™'.normalize(), 429), rawBytes('220 smtp ready\r\n'));
  const first = await get();
  expect([first.statusCode, first.headers['retry-after'] !== undefined]).toEqual([429, true]);
  await first.body.dump();
  await expect(get()).rejects.toThrow();
});

it('chooses by request when nothing is queued', async () => {
  await server.stop();
  server = await startScriptedServer({
    otherwise: ({ target }) => respond({ status: target === '/a' ? 204 : 404 }),
  });
  expect((await get('/a')).statusCode).toBe(204);
  expect((await get('/b')).statusCode).toBe(404);
});
