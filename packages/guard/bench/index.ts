import { fork } from 'node:child_process';
import { once } from 'node:events';
import { drive } from '@countersign/testkit/bench';

/**
 * What three synchronous guards add to a request: processor time of a real server behind real sockets, in turns with
 * the same server without them. Time on the clock would measure the machine's other work as well.
 */
const limitUs = 5;
const rounds = 20;
const requests = 4000;
const connections = 4;

const request = `GET /payments/42?x=1 HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nAuthorization: Bearer abc\r\nUser-Agent: bench\r\n\r\n`;
const server = fork(new URL('server.ts', import.meta.url));
const [ports] = (await once(server, 'message')) as [Record<'bare' | 'guarded', number>];

async function cpuUs(): Promise<number> {
  server.send('cpu');
  const [used] = (await once(server, 'message')) as [number];
  return used;
}

async function usPerRequest(port: number): Promise<number> {
  const before = await cpuUs();
  const each = requests / connections;
  await Promise.all(Array.from({ length: connections }, () => drive(port, request, each, 'hello')));
  return ((await cpuUs()) - before) / requests;
}

/** What disturbs a round can only make it dearer, so the cheaper rounds tell more. */
function lowerQuartile(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 4)] ?? Number.NaN;
}

for (const port of Object.values(ports)) await usPerRequest(port);
const bare: number[] = [];
const guarded: number[] = [];
for (let round = 0; round < rounds; round += 1) {
  bare.push(await usPerRequest(ports.bare));
  guarded.push(await usPerRequest(ports.guarded));
}
server.disconnect();

const added = lowerQuartile(guarded) - lowerQuartile(bare);
console.log(
  '\nnode adapter, chain of three synchronous guards (server CPU per request, lower quartile)',
);
console.log(`  without guards  ${lowerQuartile(bare).toFixed(1)} µs`);
console.log(`  with guards     ${lowerQuartile(guarded).toFixed(1)} µs`);
const held = added < limitUs;
console.log(
  `  ${held ? 'ok  ' : 'MISS'} added: ${added.toFixed(2)} µs (under ${limitUs} µs wanted)`,
);
if (!held) process.exitCode = 1;
