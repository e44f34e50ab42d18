import { freshState } from './algorithm.ts';
import type { Policy, PolicyKind } from './policy.ts';
import { type PolicyState, tolerance } from './state.ts';
import type { ConsumeMode, PolicyStatus, StoreAnswer } from './store.ts';

/** No restriction is longer than a day. */
export const longestRestrictionMs = 86_400_000;

/** Everything that is remembered of one subject under one counter. */
export interface SubjectRecord {
  /** One for each policy, in order; replaced when other policies are asked for. */
  states: PolicyState[];
  /** At most so many more until `restrictedUntil`. */
  allowance: number;
  restrictedUntil: number;
}

export function freshRecord(policies: readonly Policy[]): SubjectRecord {
  return {
    states: policies.map(({ kind, windowUs }) => freshState(kind, windowUs)),
    allowance: 0,
    restrictedUntil: 0,
  };
}

/** Evaluates all policies first, then charges all of them or none. */
export function consume(
  record: SubjectRecord,
  policies: readonly Policy[],
  nowUs: number,
  cost: number,
  mode: ConsumeMode,
  slot: number,
): StoreAnswer {
  const { states, restrictedUntil, same, corrected } = advanced(record, policies, nowUs);
  const restricted = restrictedUntil !== 0;
  let granted = !(restricted && record.allowance < cost);
  const pausedMs = granted ? 0 : Math.ceil((restrictedUntil - nowUs) / 1000);
  for (let index = 0; granted && index < states.length; index += 1)
    granted = waitUs(policies[index] as Policy, states[index] as PolicyState, nowUs, cost) === 0;
  const charge = mode === 'force' || (mode === 'take' && granted);
  // Of a refusal too where something was corrected, or it would be corrected again and again, each time from now on; and where
  // the limits have changed, as what was used counts as used as late as it may have been.
  if (charge || (same ? corrected : mode === 'take')) {
    record.states = states;
    record.restrictedUntil = restrictedUntil;
  }
  if (charge) record.allowance = restricted ? Math.max(0, record.allowance - cost) : 0;

  const statuses: PolicyStatus[] = [];
  for (let index = 0; index < states.length; index += 1) {
    const policy = policies[index] as Policy;
    const state = states[index] as PolicyState;
    const { algorithm } = state;
    const wait = granted ? 0 : waitUs(policy, state, nowUs, cost);
    if (charge) algorithm.take(policy, state, nowUs, cost, slot);
    const left = policy.limit - algorithm.used(policy, state, nowUs);
    const remaining = Math.max(0, Math.floor(left + tolerance));
    const clearUs = algorithm.clearUs(policy, state, nowUs);
    statuses.push({
      name: policy.name,
      limit: policy.limit,
      windowSeconds: policy.windowSeconds,
      concurrent: policy.kind === 'concurrency',
      remaining: restricted ? Math.min(remaining, record.allowance) : remaining,
      resetMs: Math.ceil(
        (restricted ? Math.max(clearUs, restrictedUntil - nowUs) : clearUs) / 1000,
      ),
      retryAfterMs: wait === 0 ? 0 : Math.ceil(wait / 1000),
    });
  }
  return { granted, pausedMs, policies: statuses };
}

/** What a record would be at a moment. */
interface Advanced {
  readonly states: PolicyState[];
  /** 0: there is no restriction, or it has ended. */
  readonly restrictedUntil: number;
  /** It was kept for the same policies. */
  readonly same: boolean;
  /** It said what could not be: the clock stepped back, or a bucket owed more than it may. */
  readonly corrected: boolean;
}

/**
 * The states and the restriction at a moment and for the policies in force: copies until they are committed, so that a refusal
 * or a peek leaves no trace.
 */
function advanced(
  { states: old, restrictedUntil }: SubjectRecord,
  policies: readonly Policy[],
  nowUs: number,
): Advanced {
  const same = sameStates(old, policies);
  const states = same
    ? old.map((state) => provisional(state, nowUs))
    : adopted(old, policies, nowUs);
  // Nobody is restricted for longer than that from now, wherever the clock was when it began.
  const latest = nowUs + longestRestrictionMs * 1000;
  let corrected = restrictedUntil > latest;
  for (let index = 0; index < states.length; index += 1) {
    const state = states[index] as PolicyState;
    const one = state.algorithm.advance(policies[index] as Policy, state, nowUs);
    corrected = one || corrected;
  }
  const until = restrictedUntil > nowUs ? Math.min(restrictedUntil, latest) : 0;
  return { states, restrictedUntil: until, same, corrected };
}

/** Brings the record itself to a moment and to the policies in force. */
export function advance(record: SubjectRecord, policies: readonly Policy[], nowUs: number): void {
  const { states, restrictedUntil } = advanced(record, policies, nowUs);
  record.states = states;
  record.restrictedUntil = restrictedUntil;
}

/** A copy that can be advanced. What is charged is committed first, so a list that advancing leaves alone need not be copied. */
function provisional(state: PolicyState, nowUs: number): PolicyState {
  const { kind, entries, windowUs } = state;
  if (entries.length === 0) return copy(state, entries);
  const complete =
    kind === 'sliding-log' &&
    (entries[0] as number) > nowUs - windowUs &&
    (entries.at(-2) as number) <= nowUs;
  return copy(state, complete ? entries : [...entries]);
}

function sameStates(states: readonly PolicyState[], policies: readonly Policy[]): boolean {
  return (
    states.length === policies.length &&
    states.every(
      ({ kind, windowUs }, index) =>
        kind === policies[index]?.kind && windowUs === policies[index]?.windowUs,
    )
  );
}

export function give(record: SubjectRecord, cost: number, slot: number): void {
  for (const state of record.states) {
    if (state.kind === 'concurrency' ? slot !== 0 : cost > 0)
      state.algorithm.give(state, cost, slot);
  }
}

export function isClear(
  { states, restrictedUntil }: SubjectRecord,
  policies: readonly Policy[],
  nowUs: number,
): boolean {
  return (
    restrictedUntil <= nowUs &&
    states.every(
      (state, index) => state.algorithm.clearUs(policies[index] as Policy, state, nowUs) === 0,
    )
  );
}

function waitUs(policy: Policy, state: PolicyState, nowUs: number, cost: number): number {
  if (policy.kind !== 'concurrency' && cost > policy.limit) return Number.POSITIVE_INFINITY;
  return state.algorithm.waitUs(policy, state, nowUs, cost);
}

/**
 * Carries what was used over to other policies: to the one of the same kind and window, else to the next one of the same
 * kind, where it counts as used as late as it may have been. What no policy takes over is forgotten.
 */
function adopted(
  states: readonly PolicyState[],
  policies: readonly Policy[],
  nowUs: number,
): PolicyState[] {
  const left: (PolicyState | undefined)[] = states.map((state) => copy(state, [...state.entries]));
  const takeOver = (kind: PolicyKind, windowUs?: number): PolicyState | undefined => {
    const index = left.findIndex(
      (state) => state?.kind === kind && (windowUs ?? state.windowUs) === state.windowUs,
    );
    const state = left[index];
    left[index] = undefined;
    return state;
  };
  const exact = policies.map(({ kind, windowUs }) => takeOver(kind, windowUs));
  return policies.map((policy, position) => {
    const same = exact[position];
    if (same) return same;
    const other = takeOver(policy.kind);
    return other ? converted(policy, other, nowUs) : freshState(policy.kind, policy.windowUs);
  });
}

/** Written out: a spread would give it another hidden class, and everything that reads states would be slower. */
function copy(state: PolicyState, entries: number[]): PolicyState {
  const { kind, algorithm, windowUs, at, used, previous } = state;
  return { kind, algorithm, windowUs, at, used, previous, entries };
}

function converted(policy: Policy, old: PolicyState, nowUs: number): PolicyState {
  const state = freshState(policy.kind, policy.windowUs);
  const { algorithm } = state;
  const counted = policy.kind === 'sliding-window' || policy.kind === 'fixed-window';
  if (counted) {
    const oldPolicy = { ...policy, windowUs: old.windowUs };
    algorithm.advance(oldPolicy, old, nowUs);
    algorithm.advance(policy, state, nowUs);
    if (old.at > state.at) state.used = Math.ceil(algorithm.used(oldPolicy, old, nowUs));
    else {
      // Or nothing would ever age while processes that have either window take turns.
      state.used = old.used;
      state.previous = old.at > state.at - policy.windowUs ? old.previous : 0;
    }
  } else {
    state.used = old.used;
    state.entries.push(...old.entries);
  }
  return state;
}

/** Leases a slot anew; `false` when nobody holds it any more. */
export function renew({ states }: SubjectRecord, nowUs: number, slot: number): boolean {
  let renewed = false;
  for (const { kind, entries, windowUs } of states) {
    if (kind !== 'concurrency') continue;
    for (let index = 0; index < entries.length; index += 2) {
      if (entries[index] !== slot) continue;
      entries[index + 1] = nowUs + windowUs;
      renewed = true;
    }
  }
  return renewed;
}

/**
 * Grants at most `remaining` more for a while, unless a restriction is in force that leaves less, or as much and for longer.
 * One is kept, with its own end: the least of both amounts until the later of both ends would be what nobody asked for.
 */
export function restrict(
  record: SubjectRecord,
  nowUs: number,
  remaining: number,
  durationMs: number,
): void {
  const { allowance, restrictedUntil } = record;
  const until = nowUs + durationMs * 1000;
  const tighter =
    restrictedUntil <= nowUs ||
    remaining < allowance ||
    (remaining === allowance && until > restrictedUntil);
  if (!tighter) return;
  record.allowance = remaining;
  record.restrictedUntil = until;
}
