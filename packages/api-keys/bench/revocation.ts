import { createApiKeys } from '@countersign/api-keys';
import { redisApiKeyStore } from '@countersign/api-keys/redis';
import { expectAtLeast } from '@countersign/testkit/bench';
import { startRedis } from '@countersign/testkit/redis';
import { PEPPER_1 } from '../test/fixtures.ts';
import { spreadRevocations } from '../test/revocations.ts';

/** Measures how soon other processes refuse a key that was revoked. */
export async function measureRevocation(): Promise<void> {
  const server = await startRedis();
  const keys = createApiKeys({ store: redisApiKeyStore(server.client()), peppers: [PEPPER_1] });
  try {
    const { latenciesMs } = await spreadRevocations(server.url, keys, 250);
    const at = (part: number): number => latenciesMs[Math.floor(latenciesMs.length * part)] ?? NaN;
    console.log(
      `\nRevocation across 4 processes: p50 ${at(0.5).toFixed(1)} ms, p99 ${at(0.99).toFixed(1)} ms, worst ${latenciesMs.at(-1)?.toFixed(1)} ms`,
    );
    expectAtLeast('100 ms / p99', 100 / at(0.99), 1);
  } finally {
    await keys.close();
    await server.stop();
  }
}
