import { fork } from 'node:child_process';
import { once } from 'node:events';
import { drive, expectAtLeast } from '@countersign/testkit/bench';

/**
 * What security headers and CORS add to a request: processor time of a real server behind real sockets, in turns with the same server without them.
 * Time on the clock would measure the machine's other work as well.
 */
const limitUs = 3;
const rounds = 100;
const requests = 500;
const connections = 4;

const request = `GET /payments/42 HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nOrigin: https://app.example.com\r\nUser-Agent: bench\r\n\r\n`;

export async function benchResponses(): Promise<void> {
  const server = fork(new URL('server.ts', import.meta.url));
  const [ports] = (await once(server, 'message')) as [Readonly<Record<string, number>>];

  const cpuUs = async (): Promise<number> => {
    server.send('cpu');
    const [used] = (await once(server, 'message')) as [number];
    return used;
  };
  const usPerRequest = async (port: number): Promise<number> => {
    const before = await cpuUs();
    const each = requests / connections;
    await Promise.all(
      Array.from({ length: connections }, () => drive(port, request, each, 'hello')),
    );
    return ((await cpuUs()) - before) / requests;
  };

  const samples = new Map<string, number[]>(Object.keys(ports).map((name) => [name, []]));
  for (const port of Object.values(ports)) await usPerRequest(port);
  for (let round = 0; round < rounds; round += 1) {
    for (const [name, port] of Object.entries(ports)) {
      samples.get(name)?.push(await usPerRequest(port));
    }
  }
  server.disconnect();

  console.log('\nsecurity headers and CORS (server CPU per request, lowest tenth)');
  for (const [name, values] of samples) {
    console.log(`  ${name.padEnd(28)} ${lowestTenth(values).toFixed(1)} µs`);
  }
  const added = (name: string, without: string): number =>
    lowestTenth(samples.get(name) ?? []) - lowestTenth(samples.get(without) ?? []);
  const onNode = added('node, hardening', 'node');
  const held = onNode <= limitUs;
  console.log(
    `  ${held ? 'ok  ' : 'MISS'} added on node:http: ${onNode.toFixed(2)} µs (at most ${limitUs} µs wanted)`,
  );
  if (!held) process.exitCode = 1;
  expectAtLeast(
    'added on Express, against helmet and cors',
    added('express, helmet and cors', 'express') / added('express, hardening', 'express'),
    2,
  );
}

/** What disturbs a round can only make it dearer, so the cheapest rounds tell most; many short ones find a quiet moment on a busy machine. */
function lowestTenth(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 10)] ?? Number.NaN;
}
