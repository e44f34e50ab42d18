import { parseArgs } from 'node:util';
import { record, table } from './expectations.ts';
import { runScenario } from './scenario.ts';
import { startSystem } from './system.ts';

const { values } = parseArgs({ options: { once: { type: 'boolean' } } });
const once = values.once ?? !process.stdout.isTTY;
const redisUrl = process.env['REDIS_URL'];

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
  console.log(`\nStill serving; Ctrl-C ends it.`);
  for (const name of ['authorization', 'checkout', 'payments', 'merchant'] as const) {
    console.log(`  ${name.padEnd(14)} ${system[name].url}`);
  }
  console.log(`Order again: curl -X POST ${system.checkout.url}/orders`);
  process.once('SIGINT', () => {
    void system.stop().then(() => process.exit());
  });
}
