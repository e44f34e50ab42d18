import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Heartbeat } from '../src/heartbeat.ts';
import { beatsPerLease, Lease } from '../src/lease.ts';
import type { HeldClaim } from '../src/store.ts';
import { type Recording, record } from './events.ts';

const leaseMs = 6000;
const beatMs = leaseMs / beatsPerLease;
const claim: HeldClaim = {
  id: 'id',
  owner: 'owner',
  fingerprint: 'f',
  leaseMs,
  ttlMs: 60_000,
  fence: 7,
};
const payload = Buffer.from('outcome');

/** What the store answers; a test says otherwise where it matters. */
const store = {
  begin: vi.fn(),
  renew: vi.fn<() => Promise<boolean>>(),
  complete: vi.fn<() => Promise<boolean>>(),
  release: vi.fn<() => Promise<boolean>>(),
  abandon: vi.fn<() => Promise<boolean>>(),
};
const down = new Error('down');
let heartbeat: Heartbeat;
let recording: Recording;

const hold = (): Lease =>
  new Lease(claim, { store, heartbeat, now: Date.now, askedAt: Date.now(), recovered: false });
const pass = async (ms: number): Promise<void> => void (await vi.advanceTimersByTimeAsync(ms));

beforeEach(() => {
  vi.useFakeTimers();
  heartbeat = new Heartbeat(beatMs);
  recording = record();
  for (const operation of Object.values(store)) operation.mockReset().mockResolvedValue(true);
});

afterEach(() => {
  recording.stop();
  vi.useRealTimers();
});

describe('a lease', () => {
  test('is renewed when a third of it has passed, and no sooner', async () => {
    hold();
    await pass(leaseMs / 3 - 1);
    expect(store.renew).not.toHaveBeenCalled();
    await pass(1);
    expect(store.renew).toHaveBeenCalledTimes(1);
    await pass(10 * leaseMs);
    expect(store.renew).toHaveBeenCalledTimes(31);
  });

  test('is renewed at once when the clock was put back: nobody knows how old it is', async () => {
    hold();
    vi.setSystemTime(Date.now() - leaseMs);
    await pass(beatMs);
    expect(store.renew).toHaveBeenCalledTimes(1);
  });

  test('is counted from when the store was asked, not from when it answered', async () => {
    const { signal } = hold();
    store.renew.mockImplementationOnce(
      async () => new Promise((resolve) => setTimeout(resolve, leaseMs / 2, true)),
    );
    store.renew.mockRejectedValue(down);
    await pass(leaseMs / 3 + leaseMs - 1);
    expect(signal.aborted).toBe(false);
    await pass(1);
    expect(signal.aborted).toBe(true);
  });

  test('survives a renewal that fails, which is tried again at the next beat', async () => {
    const { signal } = hold();
    store.renew.mockRejectedValueOnce(down);
    await pass(leaseMs / 3 + beatMs);
    expect(store.renew).toHaveBeenCalledTimes(2);
    await pass(10 * leaseMs);
    expect(signal.aborted).toBe(false);
    expect(recording.events).toEqual([
      ['store-error', { id: 'id', operation: 'renew', error: down }],
    ]);
  });

  test('that somebody else took is lost at once, once, and is asked for no more', async () => {
    const { signal } = hold();
    store.renew.mockResolvedValue(false);
    await pass(leaseMs / 3);
    expect(signal.reason).toMatchObject({ code: 'ERR_IDEMPOTENCY_LEASE_LOST' });
    expect(recording.events).toEqual([['lease-lost', { id: 'id', fence: 7 }]]);
    await pass(10 * leaseMs);
    expect(store.renew).toHaveBeenCalledTimes(1);
    expect(vi.getTimerCount()).toBe(0);
  });

  test('that cannot be renewed is lost once, and is tried for on: nobody else may have come', async () => {
    const { signal } = hold();
    store.renew.mockRejectedValue(down);
    await pass(leaseMs - 1);
    expect(signal.aborted).toBe(false);
    await pass(5 * leaseMs);
    expect(signal.aborted).toBe(true);
    expect(recording.events.filter(([name]) => name === 'lease-lost')).toHaveLength(1);
    const before = store.renew.mock.calls.length;
    await pass(beatMs);
    expect(store.renew.mock.calls.length).toBeGreaterThan(before);
  });

  test('begun after a time without any is renewed as well', async () => {
    await hold().release();
    await pass(10 * leaseMs);
    hold();
    await pass(leaseMs / 3);
    expect(store.renew).toHaveBeenCalledTimes(1);
  });
});

describe.each([
  ['complete', (lease: Lease) => lease.complete(payload), 'completed', { bytes: 7 }],
  ['release', (lease: Lease) => lease.release(), 'released', {}],
  ['abandon', (lease: Lease) => lease.abandon(), 'abandoned', {}],
] as const)('%s', (operation, settle, event, more) => {
  test('ends the lease, and is reported', async () => {
    expect(await settle(hold())).toBe(true);
    expect(recording.events).toEqual([[event, { id: 'id', fence: 7, ...more }]]);
    await pass(10 * leaseMs);
    expect(store.renew).not.toHaveBeenCalled();
    expect(vi.getTimerCount()).toBe(0);
  });

  test('that the store does not take is offered again at each beat, for one lease from then on', async () => {
    const lease = hold();
    store[operation].mockRejectedValue(down);
    await pass(leaseMs / 3 - 1);
    await expect(settle(lease)).rejects.toBe(down);
    await pass(10 * leaseMs);
    expect(store.renew).not.toHaveBeenCalled();
    expect(store[operation]).toHaveBeenCalledTimes(2 + beatsPerLease);
    expect(recording.events.filter(([name]) => name === 'lease-lost')).toHaveLength(1);
    expect(vi.getTimerCount()).toBe(0);
  });

  test('is over as soon as the store takes it', async () => {
    const lease = hold();
    store[operation].mockRejectedValueOnce(down);
    await expect(settle(lease)).rejects.toBe(down);
    await pass(10 * leaseMs);
    expect(store[operation]).toHaveBeenCalledTimes(2);
    expect(recording.events.map(([name]) => name)).toEqual(['store-error', event]);
  });

  test('of a record that somebody else has taken is told so', async () => {
    store[operation].mockResolvedValue(false);
    expect(await settle(hold())).toBe(false);
    expect(recording.events).toEqual([['lease-lost', { id: 'id', fence: 7 }]]);
    await pass(10 * leaseMs);
    expect(store[operation]).toHaveBeenCalledTimes(1);
  });
});

test('an outcome that is told twice, because a renewal was under way, is reported once', async () => {
  const lease = hold();
  store.renew.mockImplementation(
    async () => new Promise((resolve) => setTimeout(resolve, beatMs / 2, true)),
  );
  store.complete.mockImplementation(
    async () => new Promise((resolve) => setTimeout(resolve, 2 * beatMs, true)),
  );
  await pass(leaseMs / 3);
  const settled = lease.complete(payload);
  await pass(leaseMs);
  expect(await settled).toBe(true);
  expect(recording.events.map(([name]) => name)).toEqual(['completed']);
});

test('an outcome is taken though a renewal that it has overtaken is refused meanwhile', async () => {
  const lease = hold();
  const { signal } = lease;
  store.renew.mockImplementation(
    async () => new Promise((resolve) => setTimeout(resolve, beatMs, false)),
  );
  store.complete.mockImplementation(
    async () => new Promise((resolve) => setTimeout(resolve, 3 * beatMs, true)),
  );
  await pass(leaseMs / 3);
  const settled = lease.complete(payload);
  await pass(leaseMs);
  expect(await settled).toBe(true);
  expect(signal.aborted).toBe(false);
  expect(recording.events.map(([name]) => name)).toEqual(['completed']);
});

test('an outcome that cannot be encrypted cannot be known: the lease is given up', async () => {
  const lease = hold();
  const failed = new Error('no key');
  await expect(lease.complete(Promise.reject(failed))).rejects.toBe(failed);
  expect(store.abandon).toHaveBeenCalledTimes(1);
  expect(store.complete).not.toHaveBeenCalled();
  expect(lease.signal.aborted).toBe(true);
});

test('a lease is kept while its outcome is being encrypted', async () => {
  const lease = hold();
  const settled = lease.complete(
    new Promise((resolve) => setTimeout(resolve, 10 * leaseMs, payload)),
  );
  await pass(5 * leaseMs);
  expect(store.renew).toHaveBeenCalledTimes(15);
  await pass(5 * leaseMs);
  expect(await settled).toBe(true);
  expect(store.complete).toHaveBeenCalledWith(claim, payload);
});
