import { setImmediate } from 'node:timers/promises';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createDirectory, type Directory } from '../src/bullmq/directory.ts';
import { type Endpoint, generateSecret, memoryEndpointStore } from '../src/index.ts';

const secrets = [{ secret: generateSecret() }];
const endpointWith = (certificate: string | undefined, fifo = false): Endpoint => ({
  id: 'a',
  url: 'https://example.com/',
  secrets,
  types: ['*'],
  createdAtMs: 0,
  fifo,
  ...(certificate !== undefined && { tls: { cert: certificate, key: 'key' } }),
});

/** Agents that know whether they are open, and who uses them. */
function agents() {
  const made: { readonly certificate: string; closed: number; users: number }[] = [];
  const agentFor = ({ cert }: { readonly cert: string }) => {
    const agent = { certificate: cert, closed: 0, users: 0 };
    made.push(agent);
    return {
      agent,
      dispatch: () => true,
      close: async () => {
        // One that is used when it is closed would refuse the request.
        expect(agent.users).toBe(0);
        agent.closed += 1;
        await setImmediate();
      },
    };
  };
  return { made, agentFor };
}

type Used = ReturnType<ReturnType<typeof agents>['agentFor']>;
const settings = { scheme: undefined, timeoutMs: 60_000, now: Date.now };

/** A directory of the one endpoint, with a certificate, that is read anew each time. */
async function directoryOfOne() {
  const store = memoryEndpointStore();
  await store.put(endpointWith('one'));
  const { made, agentFor } = agents();
  const directory = createDirectory({ ...settings, store, agentFor, cacheMs: 0 });
  return { store, made, directory };
}

/** Somebody sends to it until told to stop. */
async function sendingTo(directory: Directory) {
  const gate = Promise.withResolvers<void>();
  const sending = directory.reach('a', async () => await gate.promise);
  await setImmediate();
  return async (): Promise<void> => {
    gate.resolve();
    await sending;
  };
}

describe('the directory', () => {
  it('makes no agent before something is sent', async () => {
    const { made, directory } = await directoryOfOne();
    expect(await directory.read('a')).toEqual(endpointWith('one'));
    expect(made).toEqual([]);
    await directory.close();
  });

  it('does not close an agent that somebody sends with, although the certificate was changed', async () => {
    const { store, made, directory } = await directoryOfOne();
    const stopSending = await sendingTo(directory);
    await store.put(endpointWith('two'));
    const used = await directory.reach(
      'a',
      async ({ egress }) => (egress as unknown as Used).agent.certificate,
    );
    expect([used, made.map(({ closed }) => closed)]).toEqual(['two', [0, 0]]);
    await stopSending();
    expect(made.map(({ closed }) => closed)).toEqual([1, 0]);
    await directory.close();
    expect(made.map(({ closed }) => closed)).toEqual([1, 1]);
  });

  it('is closed only when nobody sends any more', async () => {
    const { made, directory } = await directoryOfOne();
    const stopSending = await sendingTo(directory);
    let closed = false;
    const closing = directory.close().then(() => {
      closed = true;
    });
    await setImmediate();
    expect(closed).toBe(false);
    await expect(directory.reach('a', async () => 'sent')).rejects.toMatchObject({
      code: 'ERR_WEBHOOKS_CLOSED',
    });
    await Promise.all([stopSending(), closing]);
    expect(made).toMatchObject([{ closed: 1 }]);
  });

  it('asks the store once for all who ask at the same time', async () => {
    const store = memoryEndpointStore();
    await store.put(endpointWith(undefined));
    let asked = 0;
    const { get } = store;
    store.get = async (id) => {
      asked += 1;
      return await get(id);
    };
    const directory = createDirectory({ ...settings, store, ...agents(), cacheMs: 0 });
    await Promise.all([1, 2, 3].map(async () => await directory.read('a')));
    expect(asked).toBe(1);
    await directory.read('a');
    expect(asked).toBe(2);
    await directory.close();
  });

  it('does not say that there is none because somebody else asked before there was one', async () => {
    const store = memoryEndpointStore();
    const answers = [Promise.withResolvers<undefined>()];
    const { get } = store;
    store.get = async (id) => await (answers.shift()?.promise ?? get(id));
    const [first] = answers;
    const { agentFor } = agents();
    const directory = createDirectory({ ...settings, store, agentFor, cacheMs: 0 });
    const early = directory.read('a');
    await store.put(endpointWith(undefined));
    const late = directory.read('a');
    first?.resolve(undefined);
    expect(await early).toBeUndefined();
    expect(await late).toEqual(endpointWith(undefined));
    await directory.close();
  });

  const step = fc.oneof(
    { weight: 5, arbitrary: fc.constant('send' as const) },
    { weight: 2, arbitrary: fc.constant('read' as const) },
    { weight: 2, arbitrary: fc.constantFrom('one', 'two') },
    { weight: 1, arbitrary: fc.constantFrom('plain' as const, 'delete' as const) },
  );

  it('leaves no agent open and closes none in use, however loads and changes meet', async () => {
    const property = fc.asyncProperty(
      fc.scheduler(),
      fc.array(step, { maxLength: 25, size: 'max' }),
      fc.constantFrom(0, 3_600_000),
      async (scheduler, steps, cacheMs) => {
        const kept = memoryEndpointStore();
        // A store whose answers overtake each other.
        const store = {
          ...kept,
          get: async (id: string) => {
            const found = await kept.get(id);
            await scheduler.schedule(Promise.resolve(), 'answer');
            return found;
          },
        };
        const { made, agentFor } = agents();
        const directory: Directory = createDirectory({ ...settings, store, agentFor, cacheMs });
        const send = async (): Promise<void> => {
          const sent = directory.reach('a', async ({ egress }) => {
            if (!egress) return;
            const { agent } = egress as unknown as Used;
            expect(agent.closed).toBe(0);
            agent.users += 1;
            await scheduler.schedule(Promise.resolve(), 'exchange');
            expect(agent.closed).toBe(0);
            agent.users -= 1;
          });
          await sent.catch((error: unknown) =>
            expect(error).toMatchObject({ code: 'ERR_WEBHOOKS_CLOSED' }),
          );
        };
        const change = async (to: 'one' | 'two' | 'plain' | 'delete'): Promise<void> => {
          if (to === 'delete') await kept.delete('a');
          else await kept.put(endpointWith(to === 'plain' ? undefined : to));
        };
        await kept.put(endpointWith('one'));
        const running: Promise<unknown>[] = [];
        for (const next of steps) {
          running.push(
            scheduler
              .schedule(Promise.resolve(), next)
              .then(
                async () =>
                  await (next === 'send'
                    ? send()
                    : next === 'read'
                      ? directory.read('a')
                      : change(next)),
              ),
          );
        }
        const closing = scheduler
          .schedule(Promise.resolve(), 'close')
          .then(async () => await directory.close());
        await scheduler.waitFor(Promise.all([...running, closing]));
        expect(made.filter(({ closed }) => closed !== 1)).toEqual([]);
        // Whatever is told afterwards makes no new one.
        await scheduler.waitFor(send());
        expect(made.filter(({ closed }) => closed !== 1)).toEqual([]);
      },
    );
    await fc.assert(property, { numRuns: 300 });
  });
});
