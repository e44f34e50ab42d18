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

/**
 * The path of nearly every request: all policies are those of before, and grant. Does what their algorithms do, with the same
 * arithmetic in the same order; charges nothing when it is another case.
 */
export function takeAtOnce(
  values: Float64Array,
  offset: number,
  policies: readonly Policy[],
  cost: number,
  now: () => number,
): StoreAnswer | undefined {
  const nowUs = now();
  if (policies.length > 1 && !allFit(values, offset, policies, nowUs, cost)) return undefined;
  const status = charge(values, offset, policies, 0, nowUs, cost);
  if (status === undefined) return undefined;
  const statuses = [status];
  for (let index = 1; index < policies.length; index += 1)
    statuses.push(charge(values, offset, policies, index, nowUs, cost) as PolicyStatus);
  return { granted: true, pausedMs: 0, policies: statuses };
}

function allFit(
  values: Float64Array,
  offset: number,
  policies: readonly Policy[],
  nowUs: number,
  cost: number,
): boolean {
  for (let index = 0; index < policies.length; index += 1)
    if (usedWith(values, offset, policies, index, nowUs, cost) < 0) return false;
  return true;
}

/**
 * What would be used if the cost were charged; -1 when it does not fit, and when it takes more than a few sums to say, as where a
 * window must be turned.
 */
function usedWith(
  values: Float64Array,
  offset: number,
  policies: readonly Policy[],
  index: number,
  nowUs: number,
  cost: number,
): number {
  const policy = policies[index] as Policy;
  const { kind, limit, windowUs } = policy;
  const start = offset + stateWidth * index;
  const kindNumber = (values[start] as number) - shapeOf(0, windowUs, policies.length);
  const elapsedUs = nowUs - (values[start + 1] as number);
  const used = values[start + 2] as number;
  if (cost > limit || elapsedUs < 0) return -1;
  if (kind === 'token-bucket') {
    const left = used - (elapsedUs * policy.refillPerSecond) / 1e6;
    const level = left > 0 ? left + cost : cost;
    return kindNumber === 1 && level - limit <= tolerance ? level : -1;
  }
  if (elapsedUs >= windowUs) return -1;
  if (kind === 'sliding-window') {
    const weighted = weightOf(values[start + 3] as number, windowUs - elapsedUs, windowUs);
    return kindNumber === 2 && weighted + used + cost <= limit + tolerance ? used + cost : -1;
  }
  return kindNumber === 3 && kind === 'fixed-window' && used + cost <= limit ? used + cost : -1;
}

/** What still counts of the window before. Most subjects were not seen in it, and a division is dear. */
function weightOf(previous: number, restUs: number, windowUs: number): number {
  return previous === 0 ? 0 : (previous * restUs) / windowUs;
}

/** Charges the cost if it fits. */
function charge(
  values: Float64Array,
  offset: number,
  policies: readonly Policy[],
  index: number,
  nowUs: number,
  cost: number,
): PolicyStatus | undefined {
  const used = usedWith(values, offset, policies, index, nowUs, cost);
  if (used < 0) return undefined;
  const policy = policies[index] as Policy;
  const start = offset + stateWidth * index;
  values[start + 2] = used;
  const { kind, limit, windowUs } = policy;
  if (kind === 'token-bucket') {
    values[start + 1] = nowUs;
    return granted(policy, limit - used, drainUs(used, policy.refillPerSecond));
  }
  const restUs = windowUs - (nowUs - (values[start + 1] as number));
  if (kind === 'fixed-window') return granted(policy, limit - used, restUs);
  const weighted = weightOf(values[start + 3] as number, restUs, windowUs);
  return granted(policy, limit - (weighted + used), restUs + windowUs);
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
