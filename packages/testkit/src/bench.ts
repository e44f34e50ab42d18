import { once } from 'node:events';
import { connect } from 'node:net';
import { measure } from 'mitata';

/** One contender of a comparison. It is awaited when it returns a promise. */
export type Subject = () => unknown;

/** What was measured of one contender. */
export interface Measurement {
  readonly name: string;
  /** Median over all rounds. */
  readonly nsPerCall: number;
  readonly callsPerSecond: number;
}

/**
 * Measures contenders in many short turns, so that a machine that slows down slows all of them, and returns the median
 * of each.
 * @param rounds - how many times each contender has its turn of some 50 ms; default 15.
 */
export async function compare(
  subjects: Readonly<Record<string, Subject>>,
  rounds = 15,
): Promise<readonly Measurement[]> {
  const samples = new Map<string, number[]>(Object.keys(subjects).map((name) => [name, []]));
  for (let round = 0; round < rounds; round += 1) {
    for (const [name, subject] of Object.entries(subjects)) {
      const { p50 } = await measure(subject, { min_cpu_time: 50e6, batch_samples: 128 });
      samples.get(name)?.push(p50);
    }
  }
  return [...samples].map(([name, values]) => {
    const nsPerCall = median(values);
    return { name, nsPerCall, callsPerSecond: 1e9 / nsPerCall };
  });
}

/** How many times faster `subject` is than `peer` (above 1: faster). */
export function ratio(results: readonly Measurement[], subject: string, peer: string): number {
  return find(results, peer).nsPerCall / find(results, subject).nsPerCall;
}

/** Prints a comparison as a table. */
export function report(title: string, results: readonly Measurement[]): void {
  console.log(`\n${title}`);
  for (const { name, nsPerCall, callsPerSecond } of results) {
    const time =
      nsPerCall < 1e4 ? `${nsPerCall.toFixed(1)} ns` : `${(nsPerCall / 1e3).toFixed(1)} µs`;
    console.log(
      `  ${name.padEnd(48)} ${time.padStart(12)} ${Math.round(callsPerSecond).toLocaleString('en').padStart(14)}/s`,
    );
  }
}

/** Prints a ratio beside the floor it must reach, and makes the process exit with 1 when it does not. */
export function expectAtLeast(what: string, value: number, floor: number): void {
  const held = value >= floor;
  console.log(
    `  ${held ? 'ok  ' : 'MISS'} ${what}: ${value.toFixed(2)}× (at least ${floor}× wanted)`,
  );
  if (!held) process.exitCode = 1;
}

function find(results: readonly Measurement[], name: string): Measurement {
  const result = results.find((candidate) => candidate.name === name);
  if (!result) throw new TypeError(`no measurement named "${name}"`);
  return result;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

/**
 * Sends one request after the other on a single connection, as bytes, so that the client costs next to nothing. Ends
 * when `count` answers have come.
 * @param ending - what the last piece of each answer contains
 */
export async function drive(
  port: number,
  request: string,
  count: number,
  ending: string,
): Promise<void> {
  const socket = connect(port, '127.0.0.1');
  let left = count;
  socket.on('data', (data) => {
    if (!data.includes(ending)) return;
    left -= 1;
    if (left > 0) socket.write(request);
    else socket.end();
  });
  await once(socket, 'connect');
  socket.write(request);
  await once(socket, 'close');
}
