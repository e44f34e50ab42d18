import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type FaultProxy, startFaultProxy } from '../src/fault-proxy.ts';

let echo: Server;
let proxy: FaultProxy;
const sockets: Socket[] = [];

beforeEach(async () => {
  echo = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.pipe(socket);
  }).listen(0, '127.0.0.1');
  await once(echo, 'listening');
  proxy = await startFaultProxy(echo.address() as { port: number });
});
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await proxy.stop();
  echo.close();
});

async function dial(): Promise<Socket> {
  const socket = connect(proxy.port, proxy.host);
  sockets.push(socket);
  await once(socket, 'connect');
  return socket;
}

async function read(socket: Socket, length: number): Promise<string> {
  let text = '';
  while (text.length < length) text += String((await once(socket, 'data'))[0]);
  return text;
}

/** One round trip through another connection: whatever was going to arrive has had its chance. */
async function roundTrip(): Promise<void> {
  const socket = await dial();
  socket.write('!');
  await read(socket, 1);
}

test('forwards bytes both ways and counts connections', async () => {
  const socket = await dial();
  const sent = 'x'.repeat(300_000);
  socket.write(sent);
  expect(await read(socket, sent.length)).toBe(sent);
  expect(proxy.accepted).toBe(1);
  expect(proxy.open).toBe(1);
  expect(proxy.delivered).toEqual({ toServer: sent.length, toClient: sent.length });
  socket.end();
  await once(socket, 'close');
  await expect.poll(() => proxy.open).toBe(0);
});

test('latency delays bytes and keeps their order', async () => {
  const socket = await dial();
  proxy.set('toServer', { latencyMs: 50 });
  const start = performance.now();
  socket.write('a');
  setTimeout(() => socket.write('b'), 10);
  expect(await read(socket, 2)).toBe('ab');
  // A timer may fire up to a millisecond early; the proxy must not be faster than it says.
  expect(performance.now() - start).toBeGreaterThanOrEqual(55);
});

test('a blackhole swallows nothing: the bytes arrive when it is lifted', async () => {
  const socket = await dial();
  const other = await dial();
  proxy.set('toClient', { blackhole: true });
  const answers: string[] = [];
  socket.on('data', (data) => answers.push(String(data)));
  socket.write('held');
  await expect.poll(() => proxy.delivered.toServer).toBe(4);
  other.write('x');
  await expect.poll(() => proxy.delivered.toServer).toBe(5);
  expect(answers).toEqual([]);
  proxy.set('toClient', {});
  await expect.poll(() => answers.join('')).toBe('held');
});

test('a blackhole holds back the end of the stream too', async () => {
  const peer = once(echo, 'connection').then(([connection]) => connection as Socket);
  const socket = await dial();
  let ended = false;
  socket.on('end', () => {
    ended = true;
  });
  socket.resume();
  proxy.set('toClient', { blackhole: true });
  socket.end();
  await once(await peer, 'finish');
  const other = await dial();
  other.write('x');
  await expect.poll(() => proxy.delivered.toServer).toBe(1);
  expect(ended).toBe(false);
  proxy.set('toClient', {});
  await once(socket, 'close');
  expect(ended).toBe(true);
});

test('bandwidth bounds the rate of each connection', async () => {
  const socket = await dial();
  proxy.set('toServer', { bytesPerSecond: 10_000 });
  const start = performance.now();
  socket.write('x'.repeat(1000));
  await read(socket, 1000);
  expect(performance.now() - start).toBeGreaterThanOrEqual(80);
});

test('reset breaks open connections at once, and new ones work', async () => {
  const socket = await dial();
  proxy.reset();
  const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException];
  expect(error.code).toBe('ECONNRESET');
  await roundTrip();
});

test('resetAfterBytes cuts an answer in the middle', async () => {
  const socket = await dial();
  proxy.set('toClient', { resetAfterBytes: 5 });
  const received: Buffer[] = [];
  socket.on('data', (data) => received.push(data));
  socket.write('0123456789');
  const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException];
  expect(error.code).toBe('ECONNRESET');
  expect(proxy.delivered.toClient).toBe(5);
  expect('01234'.startsWith(Buffer.concat(received).toString())).toBe(true);
});

test('refuse turns new connections away and leaves open ones alone, until heal', async () => {
  const socket = await dial();
  proxy.refuse();
  await expect(dial()).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  socket.write('still here');
  expect(await read(socket, 10)).toBe('still here');
  await proxy.heal();
  await roundTrip();
});

test('a target that is down resets the client', async () => {
  const down = await startFaultProxy({ port: 1 });
  const socket = connect(down.port, down.host);
  const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException];
  expect(error.code).toBe('ECONNRESET');
  await down.stop();
});
