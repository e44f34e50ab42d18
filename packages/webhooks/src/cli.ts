#!/usr/bin/env node
import { addAbortSignal } from 'node:stream';
import { run } from './command.ts';

const signal = interrupted();

process.exitCode = await run(process.argv.slice(2), {
  env: process.env,
  // Whoever waits for a body there must not outlive it.
  stdin: addAbortSignal(signal, process.stdin),
  print: (line) => void process.stdout.write(`${line}\n`),
  complain: (line) => void process.stderr.write(`${line}\n`),
  signal,
});

/** What Ctrl-C does, in place of Node.js: a server and an attempt are to end in good order. */
function interrupted(): AbortSignal {
  const controller = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => controller.abort());
  return controller.signal;
}
