import { compare, expectAtLeast, ratio, report } from '@countersign/testkit/bench';
import { startRedis, startRedisCluster } from '@countersign/testkit/redis';
import { type RedisClient, type Script, script } from '../src/index.ts';

const concurrency = 64;
const body = `return redis.call('INCRBY', KEYS[1], ARGV[1])`;
const increment: Script<[by: number], number> = script(body, { keys: 1 });
const keys = Array.from({ length: concurrency }, (_, index) => `key:${index}`);

/** Each subject answers 64 calls that were made together. */
function contenders(client: RedisClient): Record<string, () => Promise<unknown>> {
  client.defineCommand('plainIncrement', { numberOfKeys: 1, lua: body });
  const plain = client as RedisClient & {
    plainIncrement(key: string, by: number): Promise<number>;
  };
  return {
    'bare PING': () => Promise.all(keys.map(() => client.ping())),
    'plain EVALSHA': () => Promise.all(keys.map((key) => plain.plainIncrement(key, 1))),
    'script()': () => Promise.all(keys.map((key) => increment(client, [key], [1]))),
  };
}

const server = await startRedis();
const single = await compare(contenders(server.client()));
report(
  `single node, ${concurrency} calls at a time (figures are per ${concurrency} calls)`,
  single,
);
expectAtLeast('script() against bare PING', ratio(single, 'script()', 'bare PING'), 0.9);
expectAtLeast('script() against plain EVALSHA', ratio(single, 'script()', 'plain EVALSHA'), 1.3);
await server.stop();

const cluster = await startRedisCluster();
const clustered = await compare(contenders(cluster.client()));
report(`three masters, ${concurrency} calls at a time, each in a slot of its own`, clustered);
expectAtLeast('script() against plain EVALSHA', ratio(clustered, 'script()', 'plain EVALSHA'), 1);
await cluster.stop();
