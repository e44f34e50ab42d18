import type { Redis } from 'ioredis';

/** A payment that was made. */
export interface Payment {
  readonly id: string;
  /** Who paid: the only one who may see it. */
  readonly owner: string;
  readonly amount: number;
  readonly currency: string;
}

/** The money. What is written here happened. */
export interface Ledger {
  pay(payment: Payment): Promise<void>;
  find(id: string): Promise<Payment | undefined>;
  count(): Promise<number>;
}

/** The ledger of a service that is alone. */
export function memoryLedger(): Ledger {
  const payments = new Map<string, Payment>();
  return {
    pay: async (payment) => void payments.set(payment.id, payment),
    find: async (id) => payments.get(id),
    count: async () => payments.size,
  };
}

/** How long the payments of a demo stay in somebody's Redis. */
const DAY_SECONDS = 86_400;

/** The ledger of instances that share a Redis, which stands in for their database. */
export function redisLedger(redis: Redis): Ledger {
  const key = 'payments';
  return {
    async pay(payment) {
      await redis.hset(key, payment.id, JSON.stringify(payment));
      await redis.expire(key, DAY_SECONDS);
    },
    find: async (id) => {
      const text = await redis.hget(key, id);
      return text === null ? undefined : (JSON.parse(text) as Payment);
    },
    count: () => redis.hlen(key),
  };
}
