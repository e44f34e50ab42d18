import { freshState } from './algorithm.ts';
import { kindNumbers, type Policy, type PolicyKind } from './policy.ts';
import type { SubjectRecord } from './record.ts';
import { type PolicyState, tolerance } from './state.ts';
import type { PolicyStatus, StoreAnswer } from './store.ts';
import { drainUs } from './token-bucket.ts';

// Records whose states are a few numbers, as numbers in a row: allowance, end of the restriction, how many states; and for each
// state its kind, window, moment, what is used and what was used before. The records of Redis have the same order.
const headWidth = 3;
const stateWidth = 5;

/** The kinds whose state is a few numbers, in the order of their own numbers. */
const kinds = ['token-bucket', 'sliding-window', 'fixed-window'] as const;

/** How many numbers a record of so many states has. */
export function widthOf(states: number): number {
  return headWidth + stateWidth * states;
}

export function isScalar({ states }: SubjectRecord): boolean {
  return states.every(({ kind }) => kindNumbers[kind] <= kinds.length);
}

export function load(values: Float64Array, offset: number): SubjectRecord {
  const states: PolicyState[] = [];
  const count = values[offset + 2] as number;
  for (let index = 0; index < count; index += 1) {
    const start = offset + headWidth + stateWidth * index;
    const kind = kinds[(values[start] as number) - 1] as PolicyKind;
    const state = freshState(kind, values[start + 1] as number);
    state.at = values[start + 2] as number;
    state.used = values[start + 3] as number;
    state.previous = values[start + 4] as number;
    states.push(state);
  }
  return {
    states,
    allowance: values[offset] as number,
    restrictedUntil: values[offset + 1] as number,
  };
}

export function save(values: Float64Array, offset: number, record: SubjectRecord): void {
  const { states, allowance, restrictedUntil } = record;
  values[offset] = allowance;
  values[offset + 1] = restrictedUntil;
  values[offset + 2] = states.length;
  let start = offset + headWidth;
  for (const { kind, windowUs, at, used, previous } of states) {
    values[start] = kindNumbers[kind];
    values[start + 1] = windowUs;
    values[start + 2] = at;
    values[start + 3] = used;
    values[start + 4] = previous;
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
  const count = policies.length;
  if (values[offset + 1] !== 0 || values[offset + 2] !== count) return undefined;
  const nowUs = now();
  const first = offset + headWidth;
  if (count > 1 && !allFit(values, first, policies, nowUs, cost)) return undefined;
  const status = charge(values, first, policies[0] as Policy, nowUs, cost);
  if (status === undefined) return undefined;
  const statuses = [status];
  for (let index = 1; index < count; index += 1) {
    const start = first + stateWidth * index;
    statuses.push(charge(values, start, policies[index] as Policy, nowUs, cost) as PolicyStatus);
  }
  return { granted: true, pausedMs: 0, policies: statuses };
}

function allFit(
  values: Float64Array,
  first: number,
  policies: readonly Policy[],
  nowUs: number,
  cost: number,
): boolean {
  for (let index = 0; index < policies.length; index += 1) {
    const start = first + stateWidth * index;
    if (usedWith(values, start, policies[index] as Policy, nowUs, cost) < 0) return false;
  }
  return true;
}

/**
 * What would be used if the cost were charged; -1 when it does not fit, and when it takes more than a few sums to say, as where a
 * window must be turned.
 */
function usedWith(
  values: Float64Array,
  start: number,
  policy: Policy,
  nowUs: number,
  cost: number,
): number {
  const { kind, limit, windowUs } = policy;
  const elapsedUs = nowUs - (values[start + 2] as number);
  const used = values[start + 3] as number;
  if (values[start + 1] !== windowUs || cost > limit || elapsedUs < 0) return -1;
  if (kind === 'token-bucket') {
    const left = used - (elapsedUs * policy.refillPerSecond) / 1e6;
    const level = left > 0 ? left + cost : cost;
    return values[start] === kindNumbers['token-bucket'] && level - limit <= tolerance ? level : -1;
  }
  if (elapsedUs >= windowUs) return -1;
  if (kind === 'sliding-window') {
    const weighted = ((values[start + 4] as number) * (windowUs - elapsedUs)) / windowUs;
    return values[start] === kindNumbers['sliding-window'] &&
      weighted + used + cost <= limit + tolerance
      ? used + cost
      : -1;
  }
  return kind === 'fixed-window' &&
    values[start] === kindNumbers['fixed-window'] &&
    used + cost <= limit
    ? used + cost
    : -1;
}

/** Charges the cost if it fits. */
function charge(
  values: Float64Array,
  start: number,
  policy: Policy,
  nowUs: number,
  cost: number,
): PolicyStatus | undefined {
  const used = usedWith(values, start, policy, nowUs, cost);
  if (used < 0) return undefined;
  values[start + 3] = used;
  const { kind, limit, windowUs } = policy;
  if (kind === 'token-bucket') {
    values[start + 2] = nowUs;
    return granted(policy, limit - used, drainUs(used, policy.refillPerSecond));
  }
  const restUs = windowUs - (nowUs - (values[start + 2] as number));
  if (kind === 'fixed-window') return granted(policy, limit - used, restUs);
  const weighted = ((values[start + 4] as number) * restUs) / windowUs;
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
