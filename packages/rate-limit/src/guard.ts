import type { Guard, GuardRequest, Outcome, Pass, Reply, Verdict } from '@countersign/guard';
import { assertKnown, type OptionNames } from '@countersign/options';
import { addressKey } from './address.ts';
import { chargedCost, type Decision } from './decision.ts';
import { assertHeadersOptions, headerLines, type RateLimitHeadersOptions } from './headers.ts';
import { assertFunction, assertInteger, assertName } from './options.ts';
import { largestLimit } from './policy.ts';
import type { RateLimiter } from './rate-limiter.ts';

export { type AddressKeyOptions, addressKey } from './address.ts';

export interface RateLimitGuardOptions<Name extends string, In> {
  /**
   * Which set of limits: one for all, or chosen by request (its route, the caller's tier). May be left out when the limiter has
   * one only.
   */
  readonly policy?: Name | ((request: GuardRequest, context: In) => Name);
  /**
   * Whose limits; default the client's address, an IPv6 address by its /56. Behind an identity guard use what it found out:
   * `(_, { principal }) => principal.clientId`. `undefined`: this request is not limited.
   */
  readonly key?: (request: GuardRequest, context: In) => string | undefined;
  /** An integer of at least 1; default 1. */
  readonly cost?: number | ((request: GuardRequest, context: In) => number);
  /** What the request turned out to cost; `undefined`: what was charged. The difference is charged or given back. */
  readonly actualCost?: (status: number, body: Uint8Array | undefined) => number | undefined;
  readonly headers?: RateLimitHeadersOptions;
}

const known: OptionNames<RateLimitGuardOptions<string, object>> = {
  policy: true,
  key: true,
  cost: true,
  actualCost: true,
  headers: true,
};

/**
 * Charges each request to its subject and refuses with 429 what is over a limit: before authentication by address, after it
 * by principal. A cost that no limit can ever grant is refused with 429 without `Retry-After`, a subject on the deny list with
 * 403, and, where `onStoreError` is `closed`, everything with 503 while the store cannot be asked.
 * @throws TypeError for an option that makes no sense, naming it.
 */
export function rateLimitGuard<Name extends string, In = object>(
  limiter: RateLimiter<Name>,
  options: RateLimitGuardOptions<Name, In> = {},
): Guard<Decision | undefined, In> {
  assertKnown(options, known);
  const { policy, key = byAddress, cost = 1, headers = {} } = options;
  if (typeof limiter?.check !== 'function') throw new TypeError('limiter: expected a RateLimiter');
  if (policy !== undefined && typeof policy !== 'function') assertName('policy', policy);
  assertFunction('key', key);
  assertFunction('actualCost', options.actualCost);
  if (typeof cost !== 'function') assertInteger('cost', cost, largestLimit);
  assertHeadersOptions(headers, 'headers.');
  return (request, context) => {
    const subject = key(request, context);
    if (subject === undefined) return { pass: true, context: undefined };
    const name = typeof policy === 'function' ? policy(request, context) : policy;
    const asked = {
      ...(name !== undefined && { policy: name }),
      cost: typeof cost === 'function' ? cost(request, context) : cost,
    };
    const verdictOf = (decision: Decision): Verdict<Decision> =>
      decision.allowed
        ? pass(limiter, subject, asked, decision, options)
        : refuse(decision, headers);
    return limiter.sync
      ? verdictOf(limiter.checkSync(subject, asked))
      : limiter.check(subject, asked).then(verdictOf);
  };
}

function byAddress(request: GuardRequest): string {
  return addressKey(request.remoteAddress);
}

function pass<Name extends string, In>(
  limiter: RateLimiter<Name>,
  subject: string,
  asked: { readonly policy?: Name; readonly cost: number },
  decision: Decision,
  { actualCost, headers = {} }: RateLimitGuardOptions<Name, In>,
): Pass<Decision> {
  const passed: Pass<Decision> = {
    pass: true,
    context: decision,
    headers: headerLines(decision, headers),
  };
  if (!actualCost && decision.slot === 0) return passed;
  const settleCost = async ({ status, body }: Outcome): Promise<void> => {
    const actual = actualCost?.(status, body) ?? asked.cost;
    const cost = chargedCost(decision, asked.cost, actual);
    await limiter.settle(subject, { ...asked, cost, actualCost: actual });
  };
  return {
    ...passed,
    async settle(outcome) {
      // Side by side: a slot must not stay taken because a cost is nonsense or cannot be charged.
      await Promise.all([
        limiter.release(subject, { ...asked, slot: decision.slot }),
        settleCost(outcome),
      ]);
    },
  };
}

function refuse(decision: Decision, options: RateLimitHeadersOptions): Reply {
  const problem = problemOf(decision);
  return {
    pass: false,
    status: problem.status,
    headers: [['content-type', 'application/problem+json'], ...headerLines(decision, options)],
    body: JSON.stringify(problem),
  };
}

interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly 'violated-policies'?: readonly string[];
}

function problemOf({ denied, source, policies, impossible }: Decision): Problem {
  if (denied) return { type: 'about:blank', title: 'Forbidden', status: 403 };
  if (source === 'degraded' && policies.length === 0)
    return { type: 'about:blank', title: 'Service Unavailable', status: 503 };
  const violated = policies.filter(({ retryAfterMs }) => retryAfterMs > 0).map(({ name }) => name);
  return {
    type: 'https://iana.org/assignments/http-problem-types#quota-exceeded',
    title: impossible
      ? 'Request cannot be satisfied as it costs more than the assigned quota'
      : 'Request cannot be satisfied as assigned quota has been exceeded',
    status: 429,
    ...(violated.length > 0 && { 'violated-policies': violated }),
  };
}
