import { compare, expectAtLeast, ratio, report } from '@countersign/testkit/bench';
import { startRedis, startRedisCluster } from '@countersign/testkit/redis';
import { type RedisClient, type Script, script } from '../src/index.ts';

const concurrency = 64;
const body = `return redis.call('INCRBY', KEYS[1], ARGV[1])`;
const increment: Script<[by: number], number> = script(body, { keys: 1 });
const keys = Array.from({ length: concurrency }, (_, index) => `key:${index}`);

/** Each subject answers a call. */
function contenders(client: RedisClient): Record<string, (key: string) => Promise<unknown>> {
  client.defineCommand('plainIncrement', { numberOfKeys: 1, lua: body });
  const plain = client as RedisClient & {
    plainIncrement(key: string, by: number): Promise<number>;
  };
  return {
    'bare PING': () => client.ping(),
    'plain EVALSHA': (key) => plain.plainIncrement(key, 1),
    'script()': (key) => increment(client, [key], [1]),
  };
}

function alone(client: RedisClient): Record<string, () => Promise<unknown>> {
  return subjects(client, (call) => call('key'));
}

function together(client: RedisClient): Record<string, () => Promise<unknown>> {
  return subjects(client, (call) => Promise.all(keys.map(call)));
}

function subjects(
  client: RedisClient,
  make: (call: (key: string) => Promise<unknown>) => Promise<unknown>,
): Record<string, () => Promise<unknown>> {
  return Object.fromEntries(
    Object.entries(contenders(client)).map(([name, call]) => [name, () => make(call)]),
  );
}

const server = await startRedis();
const lone = await compare(alone(server.client()));
report('single node, one call at a time', lone);
// About 0.9 on a quiet machine; on a busy one, who waits for processors weighs more than what is measured.
expectAtLeast('script() against plain EVALSHA', ratio(lone, 'script()', 'plain EVALSHA'), 0.5);
expectAtLeast('script() against bare PING', ratio(lone, 'script()', 'bare PING'), 0.5);

const single = await compare(together(server.client()));
report(
  `single node, ${concurrency} calls at a time (figures are per ${concurrency} calls)`,
  single,
);
expectAtLeast('script() against bare PING', ratio(single, 'script()', 'bare PING'), 0.9);
expectAtLeast('script() against plain EVALSHA', ratio(single, 'script()', 'plain EVALSHA'), 1.3);
await server.stop();

const cluster = await startRedisCluster();
const clustered = await compare(together(cluster.client()));
report(`three masters, ${concurrency} calls at a time, each in a slot of its own`, clustered);
expectAtLeast('script() against plain EVALSHA', ratio(clustered, 'script()', 'plain EVALSHA'), 1);
await cluster.stop();
