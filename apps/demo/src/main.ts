import { parseArgs } from 'node:util';
import { request } from 'undici';
import { record, table } from './expectations.ts';
import { type DemoPage, servePage } from './page.ts';
import { type OrderAnswer, runScenario } from './scenario.ts';
import { type System, startSystem } from './system.ts';

const once = asked() ?? !process.stdout.isTTY;
const redisUrl = process.env['REDIS_URL'] || undefined;

console.log(
  redisUrl
    ? 'Starting an authorization server and three services; two instances of payments share Redis.'
    : 'Starting an authorization server and three services, each its own process, all in memory.',
);
let orderAt: string | undefined;
const page = once ? undefined : await servePage(order);
const system = await startSystem(
  redisUrl,
  page && ((service, happening) => page.show({ happening: { service, ...happening } })),
).catch((error: Error) => {
  console.error(`✗ The system did not start: ${error.message}`);
  process.exit(1);
});
orderAt = `${system.checkout.url}/orders`;
if (page) {
  showServices(page, system);
  console.log(`Watch it: ${page.url}`);
}
const notes = record(console.log, page?.show);
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

if (page) {
  // Ctrl-C comes twice: from the terminal, to all of its processes, and from the process that started this one.
  const stop = (): void =>
    void Promise.all([system.stop(), page.close()]).then(() => process.exit());
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, stop);
  console.log(`\nStill serving; Ctrl-C ends it.`);
  for (const [name, { url, pid }] of servicesOf(system)) {
    console.log(`  ${name.padEnd(14)} ${url}  (process ${pid})`);
  }
  console.log(`Watch it:    ${page.url}`);
  console.log(`Order again: curl -X POST ${orderAt}`);
}

function servicesOf({ authorization, checkout, payments: gateway, instances, merchant }: System) {
  const services = { authorization, checkout, gateway, merchant };
  return [...Object.entries(services), ...instances.map((each) => ['payments', each] as const)];
}

function showServices(on: DemoPage, running: System): void {
  for (const [service, { pid, url, ended }] of servicesOf(running)) {
    const show = (state: string): void => on.show({ service: { service, pid, url, state } });
    show('running');
    void ended.then(show);
  }
}

/** Has checkout take another order. */
async function order(): Promise<string> {
  if (orderAt === undefined) return 'checkout is not there yet';
  try {
    const answer = await request(orderAt, { method: 'POST' });
    if (answer.statusCode !== 200) return `checkout answered ${answer.statusCode}`;
    const { status, attempts, payment } = (await answer.body.json()) as OrderAnswer;
    return `payment ${payment.id}: ${status}, attempts: ${attempts}`;
  } catch (error) {
    return `checkout did not answer: ${(error as Error).message}`;
  }
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
