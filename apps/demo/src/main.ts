import { parseArgs } from 'node:util';
import { record, table } from './expectations.ts';
import { runScenario } from './scenario.ts';
import { startSystem } from './system.ts';

const once = asked() ?? !process.stdout.isTTY;
const redisUrl = process.env['REDIS_URL'] || undefined;

console.log(
  redisUrl
    ? 'Starting an authorization server and three services; two instances of payments share Redis.'
    : 'Starting an authorization server and three services, each its own process, all in memory.',
);
const system = await startSystem(redisUrl).catch((error: Error) => {
  console.error(`✗ The system did not start: ${error.message}`);
  process.exit(1);
});
const notes = record(console.log);
try {
  await runScenario(system, notes);
} catch (error) {
  notes.step('The scenario broke off');
  notes.expect('error', error instanceof Error ? error.message : String(error), undefined);
  console.error(error);
} finally {
  if (once) await system.stop();
}

const held = notes.expectations.every((expectation) => expectation.held);
console.log(`\n${table(notes.expectations)}\n`);
console.log(held ? 'Every expectation held.' : 'NOT every expectation held.');
process.exitCode = held ? 0 : 1;

if (!once) {
  // Ctrl-C comes twice: from the terminal, to all of its processes, and from the process that started this one.
  const stop = (): void => void system.stop().then(() => process.exit());
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, stop);
  console.log(`\nStill serving; Ctrl-C ends it.`);
  const { authorization, checkout, payments: gateway, instances, merchant } = system;
  const services = { authorization, checkout, gateway, merchant };
  const rows = [
    ...Object.entries(services),
    ...instances.map((each) => ['payments', each] as const),
  ];
  for (const [name, { url, pid }] of rows) {
    console.log(`  ${name.padEnd(14)} ${url}  (process ${pid})`);
  }
  console.log(`Order again: curl -X POST ${checkout.url}/orders`);
}

/** Whether to end after the scenario, where the command line says so. */
function asked(): boolean | undefined {
  try {
    const options = { once: { type: 'boolean' } } as const;
    return parseArgs({ options, allowNegative: true }).values.once;
  } catch (error) {
    console.error(`✗ ${(error as Error).message}. There are --once and --no-once.`);
    return process.exit(2);
  }
}
