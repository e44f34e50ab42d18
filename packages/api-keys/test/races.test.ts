import {
  type ApiKeyStore,
  type ApiKeys,
  createApiKeys,
  memoryApiKeyStore,
} from '@countersign/api-keys';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PEPPER_1, START_MS } from './fixtures.ts';

const PROCESSES = 3;

type Action = { kind: 'verify' | 'revoke' | 'rotate'; at: number } | { kind: 'wait'; ms: number };

/**
 * A store as seen over a network whose every message, there, back and published, takes as long as the scheduler
 * likes. What the store does is atomic; when it happens, and when anybody hears of it, is what is searched.
 */
function remote(
  store: ApiKeyStore,
  scheduler: fc.Scheduler,
  heard: (id: string) => void,
): ApiKeyStore {
  const travel = () => scheduler.schedule(Promise.resolve(), 'travel');
  const call = async <T>(run: () => T | Promise<T>): Promise<T> => {
    await travel();
    const reply = await run();
    await travel();
    return reply;
  };
  return {
    ...store,
    find: (id) => call(() => store.find(id)),
    revoke: (id, revocation) => call(() => store.revoke(id, revocation)),
    rotate: (id, rotation) => call(() => store.rotate(id, rotation)),
    subscribe(listener) {
      return (
        store.subscribe?.((change) => {
          void travel().then(() => {
            listener(change);
            if (change !== 'all') heard(change.id);
          });
        }) ?? (() => {})
      );
    },
  };
}

const action: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ kind: fc.constant('verify' as const), at: fc.nat(PROCESSES - 1) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('revoke' as const), at: fc.nat(PROCESSES - 1) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('rotate' as const), at: fc.nat(PROCESSES - 1) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('wait' as const),
      ms: fc.constantFrom(1, 2500, 5000),
    }),
  },
);

describe('verify, revoke, rotate and the filling of caches, in any order', () => {
  it('never bring a key back that a process knows to be dead, and rotate once', {
    timeout: 60_000,
  }, async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.scheduler(),
        fc.array(action, { minLength: 4, maxLength: 14 }),
        fc.boolean(),
        async (scheduler, actions, deaf) => {
          let nowMs = START_MS;
          const memory = memoryApiKeyStore();
          // When each process learned that the key is dead: by its own hand, or by a message.
          const knownDead = new Set<number>();
          let deadSinceMs = Number.POSITIVE_INFINITY;
          const isDead = () => {
            const record = memory.find(id) as {
              record: { revokedAtMs?: number; expiresAtMs?: number };
            };
            return (
              record.record.revokedAtMs !== undefined || (record.record.expiresAtMs ?? 0) <= nowMs
            );
          };
          const processes = Array.from({ length: PROCESSES }, (_, at): ApiKeys => {
            const { subscribe, ...unheard } = remote(memory, scheduler, () => {
              if (isDead()) knownDead.add(at);
            });
            const store = deaf ? unheard : { ...unheard, ...(subscribe && { subscribe }) };
            return createApiKeys({ store, peppers: [PEPPER_1], now: () => nowMs });
          });
          const [first] = processes as [ApiKeys];
          const { key, record } = await first.create({ owner: 'a', scopes: [] });
          const { id } = record;
          const successors: string[] = [];

          const perform = async (step: Action): Promise<void> => {
            if (step.kind === 'wait') {
              nowMs += step.ms;
              return;
            }
            const keys = processes[step.at] as ApiKeys;
            if (step.kind === 'verify') {
              const mustFail = knownDead.has(step.at) || nowMs >= deadSinceMs + 5000;
              const { status } = await keys.verify(key);
              if (mustFail) expect(['revoked', 'expired']).toContain(status);
              else expect(['valid', 'revoked', 'expired']).toContain(status);
              return;
            }
            const change =
              step.kind === 'revoke'
                ? keys.revoke(id, { reason: 'lost' })
                : keys.rotate(id, { overlapSeconds: 0 }).then((next) => successors.push(next.key));
            await change.catch((error: unknown) => {
              expect(String((error as { code?: string }).code)).toMatch(
                /ERR_API_KEYS_(REVOKED|EXPIRED|ALREADY_ROTATED)/,
              );
            });
            knownDead.add(step.at);
            deadSinceMs = Math.min(deadSinceMs, nowMs);
          };

          const performed = actions.map((step) =>
            scheduler.schedule(Promise.resolve(), step.kind).then(() => perform(step)),
          );
          await scheduler.waitFor(Promise.all(performed));

          expect(successors.length).toBeLessThanOrEqual(1);
          // Everything that was published has arrived now: the final truth holds everywhere.
          await scheduler.waitIdle();
          if (deaf) nowMs += 5000;
          for (const keys of processes) {
            const { status } = await scheduler.waitFor(keys.verify(key));
            expect(status === 'valid').toBe(!isDead());
            for (const next of successors) {
              expect((await scheduler.waitFor(keys.verify(next))).status).toBe('valid');
            }
          }
        },
      ),
      { numRuns: 1500 },
    );
  });
});
