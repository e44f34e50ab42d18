import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { respond } from '@countersign/testkit/scripted-server';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { DeliveryEvent, EndpointEvent } from '../src/index.ts';
import { queueFixture, until } from './queue-fixture.ts';

const rig = queueFixture();
const day = 86_400_000;
const deliveries: DeliveryEvent[] = [];
const changes: EndpointEvent[] = [];
const noteDelivery = (message: unknown): void => void deliveries.push(message as DeliveryEvent);
const noteChange = (message: unknown): void => void changes.push(message as EndpointEvent);

beforeEach(() => {
  [deliveries.length, changes.length] = [0, 0];
  subscribe('countersign:webhooks:delivery', noteDelivery);
  subscribe('countersign:webhooks:endpoint', noteChange);
});
afterEach(() => {
  unsubscribe('countersign:webhooks:delivery', noteDelivery);
  unsubscribe('countersign:webhooks:endpoint', noteChange);
});

const numbered = (count: number): readonly string[] =>
  Array.from({ length: count }, (_, index) => `evt_${index}`);
const publish = async (ids: readonly string[]): Promise<void> => {
  for (const id of ids) await rig.queue.publish({ id, payload: { id } });
};
const letters = async (): Promise<readonly (readonly [event: string, reason: string])[]> =>
  (await rig.queue.deadLetters({ limit: 1000 })).map(({ event, reason }) => [event, reason]);
const wakeUps = async (): Promise<number> => await rig.redis.zcard('webhooks:{0}:drain:delayed');
const resting = async (): Promise<void> => await until(async () => (await wakeUps()) === 1);

describe('what waits for an endpoint ends as a dead letter, told by an event', () => {
  test.each(['paused', 'gone'])(
    'when the endpoint is %s for longer than a delivery may wait',
    async (how) => {
      await rig.endpoint('a', { concurrency: 1 });
      rig.queueWith({ shards: 1 }).worker();
      if (how === 'paused') await rig.queue.pause('a');
      else rig.server.enqueue(respond({ status: 410 }));
      await publish(['evt_0']);
      if (how === 'gone') await until(async () => (await rig.queue.state('a')).reason === 'gone');
      await publish(['evt_1']);
      await resting();
      await rig.pass(29 * day);
      await publish(['evt_2']);
      expect((await rig.queue.stats()).pending).toBe(3);
      await rig.pass(day);
      await until(async () => (await rig.queue.stats()).pending === 1);
      await resting();
      const expired = [
        ['evt_0', 'expired'],
        ['evt_1', 'expired'],
      ];
      expect(await letters()).toEqual(expired);
      expect(deliveries).toEqual(
        expired.map(([eventId, outcome]) => ({ eventId, endpoint: 'a', outcome, attempts: 0 })),
      );
      expect(await rig.queue.stats()).toMatchObject({ published: 3, dead: 2 });
      // Nothing of them is lost: as long as the dead letters are kept, they can be delivered.
      await rig.pass(28 * day);
      await rig.queue.resume('a');
      expect(await rig.queue.redeliverSince('a', 0)).toBe(2);
      await rig.queue.drained();
      expect(new Set(rig.idsSentTo('/a'))).toEqual(new Set(['evt_0', 'evt_1', 'evt_2']));
      expect(await letters()).toEqual([]);
    },
  );

  test('when it is disabled for that long; a probe is never spent on it', async () => {
    let healthy = false;
    await rig.serve({ otherwise: () => respond({ status: healthy ? 200 : 500 }) });
    await rig.endpoint('a', { concurrency: 1 });
    rig
      .queueWith({
        shards: 1,
        schedule: [0, ...Array.from({ length: 2000 }, () => 0)],
        breaker: { failures: 1, disableAfterMs: 0 },
      })
      .worker();
    await publish(numbered(5));
    await until(async () => (await rig.queue.state('a')).status === 'disabled');
    await resting();
    await rig.pass(29 * day);
    await until(() => rig.server.requests.length === 2);
    await resting();
    await publish(['evt_new']);
    healthy = true;
    // Both at once: those of before ran out, and the next probe is due.
    await rig.pass(2 * day);
    await until(async () => (await rig.queue.stats()).delivered === 1);
    expect(rig.idsSentTo('/a').at(-1)).toBe('evt_new');
    expect(rig.server.requests).toHaveLength(3);
    expect(new Map(await letters())).toEqual(new Map(numbered(5).map((id) => [id, 'expired'])));
    expect(await rig.queue.state('a')).toMatchObject({ status: 'active', pending: 0, dead: 5 });
  });

  test.each(['cannot be called as it is stored', 'cannot be read'])(
    'when it %s for that long',
    async (how) => {
      const tls = { cert: 'certificate', key: 'key', rejectUnauthorized: false };
      await rig.endpoint('a', how === 'cannot be read' ? {} : { tls });
      const stored = rig.endpoints;
      let well = false;
      rig.endpoints = {
        ...stored,
        async get(id) {
          if (!well && how === 'cannot be read') throw new Error('no key opens it');
          return await stored.get(id);
        },
      };
      const errors: unknown[] = [];
      rig.queueWith({ shards: 1 });
      await publish(['evt_0']);
      rig.queue.worker({ sweepMs: 20, onError: (error) => errors.push(error) });
      await until(() => errors.length > 0);
      await rig.pass(29 * day);
      await publish(['evt_1']);
      const toldBefore = errors.length;
      await until(() => errors.length > toldBefore);
      expect((await rig.queue.stats()).pending).toBe(2);
      await rig.pass(day);
      await until(async () => (await rig.queue.stats()).dead > 0);
      expect(await letters()).toEqual([['evt_0', 'expired']]);
      expect(deliveries).toMatchObject([{ eventId: 'evt_0', outcome: 'expired', attempts: 0 }]);
      well = true;
      await rig.endpoint('a');
      await rig.queue.redeliver('a:evt_0');
      await rig.pass(60_000);
      await rig.queue.drained();
      expect(new Set(rig.idsSentTo('/a'))).toEqual(new Set(['evt_0', 'evt_1']));
    },
  );

  test('when no worker ran for that long; what is younger is delivered', async () => {
    await rig.endpoint('a');
    rig.queueWith({ shards: 1 });
    await publish(numbered(1200));
    await rig.pass(31 * day);
    await publish(['evt_new']);
    rig.queue.worker();
    await rig.queue.drained();
    expect(rig.idsSentTo('/a')).toEqual(['evt_new']);
    expect(await rig.queue.stats()).toMatchObject({ published: 1201, delivered: 1, dead: 1200 });
    expect(deliveries.filter(({ outcome }) => outcome === 'expired')).toHaveLength(1200);
    await rig.queue.redeliver('a:evt_7');
    await rig.queue.drained();
    expect(rig.idsSentTo('/a')).toEqual(['evt_new', 'evt_7']);
  });

  test('although its payload is lost, too, because nobody came for even longer', async () => {
    await rig.endpoint('a');
    rig.queueWith({ shards: 1 });
    await publish(['evt_0']);
    await rig.pass(61 * day);
    expect(await rig.redis.keys('webhooks:payload:*')).toEqual([]);
    rig.queue.worker();
    await rig.queue.drained();
    expect(await letters()).toEqual([['evt_0', 'expired']]);
    await expect(rig.queue.redeliver('a:evt_0')).rejects.toMatchObject({
      code: 'ERR_WEBHOOKS_DELIVERY_UNKNOWN',
    });
  });

  test('however long its ladder is: waiting for a retry is waiting', async () => {
    await rig.serve({ otherwise: () => respond({ status: 500 }) });
    await rig.endpoint('a');
    rig.queueWith({ shards: 1, schedule: Array.from({ length: 100 }, () => day) }).worker();
    await publish(['evt_0']);
    for (let tries = 1; tries <= 30; tries += 1) {
      await until(async () => (await rig.queue.stats()).retried === tries);
      await resting();
      await rig.pass(day);
    }
    await rig.queue.drained();
    expect(rig.server.requests).toHaveLength(30);
    expect(await letters()).toEqual([['evt_0', 'expired']]);
    expect(deliveries).toEqual([
      { eventId: 'evt_0', endpoint: 'a', outcome: 'expired', attempts: 30 },
    ]);
  });

  test('when a FIFO endpoint is stuck for that long', async () => {
    await rig.serve({ otherwise: () => respond({ status: 500 }) });
    await rig.endpoint('a', { fifo: true });
    rig.queueWith({ shards: 1, schedule: [0, 10 * day] }).worker();
    await publish(numbered(3));
    await until(async () => (await rig.queue.stats()).retried === 1);
    await resting();
    await rig.pass(30 * day);
    await rig.queue.drained();
    expect(rig.server.requests).toHaveLength(1);
    expect(await letters()).toEqual(numbered(3).map((id) => [id, 'expired']));
  });

  test('when it is removed; all of it can be listed, and delivered again when it is back', async () => {
    await rig.endpoint('a');
    rig.queueWith({ shards: 1 });
    await rig.queue.pause();
    await publish(numbered(700));
    await rig.endpoints.delete('a');
    rig.queue.worker();
    await rig.queue.resume();
    await rig.queue.drained();
    expect(rig.server.requests).toHaveLength(0);
    expect(changes).toEqual([{ endpoint: 'a', change: 'removed', pending: 700 }]);
    expect(deliveries).toHaveLength(700);
    expect(new Set(deliveries.map(({ outcome }) => outcome))).toEqual(
      new Set(['endpoint-removed']),
    );
    expect(await letters()).toHaveLength(700);
    expect((await rig.redis.keys('*:a')).sort()).toEqual(
      ['dead', 'history', 'reasons'].map((name) => `webhooks:{0}:${name}:a`),
    );
    await rig.endpoint('a');
    await rig.queue.redeliver('a:evt_1');
    await rig.queue.drained();
    expect(rig.idsSentTo('/a')).toEqual(['evt_1']);
  });

  test('but not what is left when the endpoint is there again', async () => {
    await rig.endpoint('a');
    rig.queueWith({ shards: 1 });
    await publish(numbered(1600));
    const { get } = rig.endpoints;
    // A store that has lost sight of it for a moment.
    let blinks = 3;
    rig.endpoints.get = async (id) => {
      blinks -= 1;
      return blinks >= 0 ? undefined : await get(id);
    };
    rig.queue.worker();
    await rig.queue.drained();
    const { delivered, dead } = await rig.queue.stats();
    expect(delivered + dead).toBe(1600);
    expect(dead).toBeLessThanOrEqual(1000);
    expect(new Set(rig.idsSentTo('/a')).size).toBe(delivered);
    expect(await rig.queue.redeliverSince('a', 0)).toBe(1600);
  });
});

describe('an endpoint that must not be called', () => {
  test('has one wake-up, for when the first delivery runs out, however many wait', async () => {
    await rig.endpoint('a');
    rig.queueWith({ shards: 1 }).worker();
    await rig.queue.pause('a');
    await publish(['evt_0']);
    const startsAtMs = Number(await rig.redis.zscore('webhooks:{0}:due:a', 'evt_0'));
    await Promise.all(Array.from({ length: 500 }, () => rig.queue.publish({ payload: {} })));
    await resting();
    expect(await rig.redis.zrange('webhooks:{0}:wakes', '0', '-1', 'WITHSCORES')).toEqual([
      'a',
      String(startsAtMs + 30 * day),
    ]);
    expect(await rig.redis.llen('webhooks:{0}:drain:wait')).toBe(0);
  });

  test('has one still when it is paused while deliveries wait for a retry', async () => {
    rig.server.enqueue(respond({ status: 500 }));
    await rig.endpoint('a');
    rig.queueWith({ shards: 1, schedule: [0, 2 * day] }).worker();
    await publish(['evt_0']);
    await until(async () => (await rig.queue.stats()).retried === 1);
    await resting();
    await rig.queue.pause('a');
    await rig.pass(3 * day);
    await resting();
    expect(rig.server.requests).toHaveLength(1);
    await rig.queue.resume('a');
    await rig.queue.drained();
    expect(rig.server.requests).toHaveLength(2);
  });
});

describe('a payload', () => {
  const lifeOf = async (event: string): Promise<number> =>
    await rig.redis.pttl(`webhooks:payload:{${event}}`);

  test('outlives the dead letter of its delivery, and no more', async () => {
    await rig.serve({ otherwise: () => respond({ status: 500 }) });
    await rig.endpoint('a');
    rig.queueWith({ shards: 1, schedule: [0], historyMs: 0, deadLetterMs: 10 * day }).worker();
    await publish(['evt_0']);
    await rig.queue.drained();
    const left = await rig.redis.pttl('webhooks:{0}:dead:a');
    expect(await lifeOf('evt_0')).toBeGreaterThan(left);
    await rig.pass(9 * day);
    await publish(['evt_1']);
    await rig.queue.drained();
    expect(await letters()).toHaveLength(2);
    await rig.pass(day);
    expect(await letters()).toEqual([['evt_1', 'exhausted']]);
    await publish(['evt_2']);
    await rig.queue.drained();
    await until(async () => (await lifeOf('evt_0')) === -2);
    expect(await lifeOf('evt_1')).toBeGreaterThan(0);
  });

  test('lives for as long as the history tells of it', async () => {
    await rig.endpoint('a');
    rig.queueWith({ retentionMs: day, deadLetterMs: day, historyMs: 5 * day });
    await publish(['evt_0']);
    expect(await lifeOf('evt_0')).toBeGreaterThan(4 * day);
  });

  test('lives on when its delivery is made again, and is needed once', async () => {
    await rig.serve({ otherwise: () => respond({ status: 500 }) });
    await rig.endpoint('a');
    rig.queueWith({ shards: 1, schedule: [0], deadLetterMs: day, historyMs: 0 }).worker();
    await publish(['evt_0']);
    await rig.queue.drained();
    await rig.pass(day - 60_000);
    const before = await lifeOf('evt_0');
    await rig.queue.pause('a');
    await rig.queue.redeliver('a:evt_0');
    await rig.queue.redeliver('a:evt_0');
    expect(await lifeOf('evt_0')).toBeGreaterThan(before);
    expect(await rig.redis.hget('webhooks:payload:{evt_0}', 'n')).toBe('1');
    // Whoever keeps less from now on takes nothing away from what was promised.
    await rig.queue.close();
    rig.queueWith({ shards: 1, schedule: [0], retentionMs: 1000, deadLetterMs: 1000 });
    await rig.endpoint('b');
    await publish(['evt_0']);
    expect(await lifeOf('evt_0')).toBeGreaterThan(before);
  });
});
