import { egressAgent } from '@countersign/egress';
import { generateSecret, memoryEndpointStore } from '@countersign/webhooks';
import { createWebhookQueue, type WebhookQueue } from '@countersign/webhooks/bullmq';
import type { Redis } from 'ioredis';

/** Healthy endpoints; each wants a type of its own, `to.<number>`. */
export const HEALTHY = 20;
export const SHARDS = 4;

/** The same endpoints in every process: {@link HEALTHY} at the origin, and one, number {@link HEALTHY}, where nobody listens. */
export async function queueFor(
  connection: Redis,
  origin: string,
): Promise<{ readonly queue: WebhookQueue; close(): Promise<void> }> {
  const endpoints = memoryEndpointStore();
  for (let index = 0; index <= HEALTHY; index += 1) {
    await endpoints.put({
      id: `ep_${index}`,
      url: index === HEALTHY ? 'http://127.0.0.1:9/' : `${origin}/ok`,
      secrets: [{ secret: generateSecret() }],
      types: [`to.${index}`],
      createdAtMs: 0,
    });
  }
  const egress = egressAgent({ allow: ['http://127.0.0.0/8'] });
  const queue = createWebhookQueue({ connection, endpoints, egress, shards: SHARDS, historyMs: 0 });
  const close = async (): Promise<void> => {
    await queue.close();
    await egress.close();
  };
  return { queue, close };
}
