import { freshState } from './algorithm.ts';
import { kindNumbers, type Policy, type PolicyKind } from './policy.ts';
import type { SubjectRecord } from './record.ts';
import { type PolicyState, tolerance } from './state.ts';
import type { PolicyStatus, StoreAnswer } from './store.ts';
import { drainUs } from './token-bucket.ts';

// Records without a restriction whose states are a few numbers, as numbers in a row. Each state has four: its shape, its moment,
// what is used and what was used before. The shape says kind, window and how many states there are, so that one comparison tells
// whether a state is of the policy that is asked for; 366 days of microseconds, times 256, are still exact.
const stateWidth = 4;

function shapeOf(kindNumber: number, windowUs: number, count: number): number {
  return 256 * windowUs + 8 * count + kindNumber;
}

/** The kinds whose state is a few numbers, in the order of their own numbers. */
const kinds = ['token-bucket', 'sliding-window', 'fixed-window'] as const;

/** How many numbers a record of so many states has. */
export function widthOf(states: number): number {
  return stateWidth * states;
}

export function isScalar({ states, restrictedUntil }: SubjectRecord): boolean {
  return restrictedUntil === 0 && states.every(({ kind }) => kindNumbers[kind] <= kinds.length);
}

export function load(values: Float64Array, offset: number): SubjectRecord {
  const states: PolicyState[] = [];
  const count = Math.floor((values[offset] as number) / 8) % 32;
  for (let start = offset; start < offset + widthOf(count); start += stateWidth) {
    const shape = values[start] as number;
    const state = freshState(kinds[(shape % 8) - 1] as PolicyKind, Math.floor(shape / 256));
    state.at = values[start + 1] as number;
    state.used = values[start + 2] as number;
    state.previous = values[start + 3] as number;
    states.push(state);
  }
  return { states, allowance: 0, restrictedUntil: 0 };
}

export function save(values: Float64Array, offset: number, { states }: SubjectRecord): void {
  let start = offset;
  for (const { kind, windowUs, at, used, previous } of states) {
    values[start] = shapeOf(kindNumbers[kind], windowUs, states.length);
    values[start + 1] = at;
    values[start + 2] = used;
    values[start + 3] = previous;
    start += stateWidth;
  }
}

/** When a record is charged, in microseconds. */
const moment = new Float64Array(1);
/** What it held before its policies were charged one after the other. */
const before = new Float64Array(widthOf(16));

/**
 * The path of nearly every request: all policies are those of before, and grant. Does what their algorithms do, with the same
 * arithmetic in the same order; charges nothing when it is another case. In functions so small that the compiler makes one of
 * those that a service needs: numbers that cross from one to another are objects, and cost as much as all the rest.
 */
export function takeAtOnce(
  values: Float64Array,
  offset: number,
  policies: readonly Policy[],
  cost: number,
  now: () => number,
): StoreAnswer | undefined {
  moment[0] = now();
  if (policies.length > 1) return takeAllAtOnce(values, offset, policies, cost);
  const status = charge(values, offset, policies[0] as Policy, 1, cost);
  return status && { granted: true, pausedMs: 0, policies: [status] };
}

function takeAllAtOnce(
  values: Float64Array,
  offset: number,
  policies: readonly Policy[],
  cost: number,
): StoreAnswer | undefined {
  const count = policies.length;
  const width = widthOf(count);
  for (let at = 0; at < width; at += 1) before[at] = values[offset + at] as number;
  const statuses: PolicyStatus[] = [];
  for (let index = 0; index < count; index += 1) {
    const start = offset + stateWidth * index;
    const status = charge(values, start, policies[index] as Policy, count, cost);
    if (status === undefined) {
      for (let at = 0; at < width; at += 1) values[offset + at] = before[at] as number;
      return undefined;
    }
    statuses.push(status);
  }
  return { granted: true, pausedMs: 0, policies: statuses };
}

/**
 * Charges the cost if it fits. `undefined`: it does not, or it takes more than a few sums to say, as where a window must be turned.
 * @param count - how many states the record has.
 */
function charge(
  values: Float64Array,
  start: number,
  policy: Policy,
  count: number,
  cost: number,
): PolicyStatus | undefined {
  const elapsedUs = (moment[0] as number) - (values[start + 1] as number);
  if (elapsedUs < 0) return undefined;
  const kindNumber = (values[start] as number) - shapeOf(0, policy.windowUs, count);
  switch (policy.kind) {
    case 'sliding-window':
      if (kindNumber !== kindNumbers['sliding-window']) return undefined;
      return chargeSlidingWindow(values, start, policy, elapsedUs, cost);
    case 'token-bucket':
      if (kindNumber !== kindNumbers['token-bucket']) return undefined;
      return chargeTokenBucket(values, start, policy, elapsedUs, cost);
    case 'fixed-window':
      if (kindNumber !== kindNumbers['fixed-window']) return undefined;
      return chargeFixedWindow(values, start, policy, elapsedUs, cost);
    default:
      return undefined;
  }
}

function chargeSlidingWindow(
  values: Float64Array,
  start: number,
  policy: Policy,
  elapsedUs: number,
  cost: number,
): PolicyStatus | undefined {
  const { limit, windowUs } = policy;
  const restUs = windowUs - elapsedUs;
  const used = values[start + 2] as number;
  const previous = values[start + 3] as number;
  // Most subjects were not seen in the window before, and a division is dear.
  const weighted = previous === 0 ? 0 : (previous * restUs) / windowUs;
  if (restUs <= 0 || weighted + used + cost > limit + tolerance) return undefined;
  values[start + 2] = used + cost;
  return granted(policy, limit - (weighted + (used + cost)), restUs + windowUs);
}

function chargeFixedWindow(
  values: Float64Array,
  start: number,
  policy: Policy,
  elapsedUs: number,
  cost: number,
): PolicyStatus | undefined {
  const { limit, windowUs } = policy;
  const used = (values[start + 2] as number) + cost;
  if (elapsedUs >= windowUs || used > limit) return undefined;
  values[start + 2] = used;
  return granted(policy, limit - used, windowUs - elapsedUs);
}

function chargeTokenBucket(
  values: Float64Array,
  start: number,
  policy: Policy,
  elapsedUs: number,
  cost: number,
): PolicyStatus | undefined {
  const { limit, refillPerSecond } = policy;
  const left = (values[start + 2] as number) - (elapsedUs * refillPerSecond) / 1e6;
  const used = left > 0 ? left + cost : cost;
  if (used - limit > tolerance) return undefined;
  values[start + 1] = (values[start + 1] as number) + elapsedUs;
  values[start + 2] = used;
  return granted(policy, limit - used, drainUs(used, refillPerSecond));
}

function granted(policy: Policy, left: number, clearUs: number): PolicyStatus {
  return {
    name: policy.name,
    limit: policy.limit,
    windowSeconds: policy.windowSeconds,
    concurrent: false,
    remaining: left > 0 ? Math.floor(left + tolerance) : 0,
    resetMs: Math.ceil(Math.ceil(clearUs) / 1000),
    retryAfterMs: 0,
  };
}
