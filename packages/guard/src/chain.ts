import { reportGuardFailure, reportSettleFailure } from './events.ts';
import { problem, refusalOf } from './problem.ts';
import type { GuardRequest } from './request.ts';
import { assertSendable } from './sendable.ts';
import { joined } from './static-headers.ts';
import {
  type Failure,
  type Guard,
  type HeaderEntry,
  isReply,
  isVerdict,
  type Outcome,
  type Pass,
  type Reply,
  type Streaming,
  type Verdict,
} from './verdict.ts';

/**
 * Guards in a row. A chain is itself a guard, whose context holds what each of its guards found out, under the guard's
 * name. It never throws: a guard that does is answered with a 500 that says nothing, and what it threw is reported on
 * `countersign:guard:guard-error`.
 */
export type Chain<C extends object = object, In extends object = object> = Guard<C, In> &
  ChainMembers<C, In>;

/** What a chain can do besides guarding. Beside it, because a type that is a function alone is inferred last where options are. */
export interface ChainMembers<C extends object, In extends object> {
  /**
   * A chain with one more guard behind those there are; this chain stays as it is. The guard sees their findings.
   * @throws TypeError when the name is taken.
   */
  use<const Name extends string, Found>(
    name: Name extends keyof (C & In) ? never : Name,
    guard: Guard<Found, C & In>,
  ): Chain<C & { readonly [K in Name]: Found }, In>;
  /** The names of its guards, the outermost first. */
  readonly names: readonly string[];
  /** Whether one of its guards does. */
  readonly refusesStreams: boolean;
}

interface Link {
  readonly name: string;
  readonly guard: Guard<unknown, never>;
}

/** A guard that let the request pass, and wants to see what comes of it. */
interface Settler {
  readonly name: string;
  readonly pass: Pass<unknown>;
}

/** What the guards so far have decided. */
interface Progress {
  readonly request: GuardRequest;
  readonly context: Record<string, unknown>;
  headers: readonly HeaderEntry[];
  readonly settlers: Settler[];
  /** Of the guards that passed, those that explain failures. */
  readonly explainers: Settler[];
}

const unnoticed: Reply = problem({ status: 500 });

/** A chain without guards: lets everything pass. `In` is the context it expects of a chain around it. */
export function chain<In extends object = object>(): Chain<object, In> {
  return chainOf([]);
}

function chainOf<C extends object, In extends object>(links: readonly Link[]): Chain<C, In> {
  const run = (request: GuardRequest, context: In): Verdict<C> | Promise<Verdict<C>> =>
    advance(links, 0, start(request, context)) as Verdict<C> | Promise<Verdict<C>>;
  const use = (name: string, guard: Guard<never, never>): Chain => {
    // As a key of the context it would be no key: it would replace the context's prototype.
    if (name === '__proto__') throw new TypeError('chain: a guard cannot be named "__proto__"');
    if (links.some((link) => link.name === name)) {
      throw new TypeError(`chain: there is a guard named "${name}" already`);
    }
    return chainOf([...links, { name, guard }]);
  };
  const names = links.map(({ name }) => name);
  const refusesStreams = links.some(({ guard }) => guard.refusesStreams);
  return Object.assign(run, { use, names, refusesStreams }) as unknown as Chain<C, In>;
}

function start(request: GuardRequest, context: object): Progress {
  return { request, context: { ...context }, headers: [], settlers: [], explainers: [] };
}

/** Runs the guards from `index` on, and waits only for those that have something to wait for. */
function advance(
  links: readonly Link[],
  index: number,
  progress: Progress,
): Verdict<object> | Promise<Verdict<object>> {
  for (let at = index; at < links.length; at += 1) {
    const link = links[at] as Link;
    const verdict = decide(link, progress);
    if ('then' in verdict) {
      const goOn = (late: Verdict<unknown>): Verdict<object> | Promise<Verdict<object>> =>
        note(link, late, progress) ?? advance(links, at + 1, progress);
      return verdict.then(
        (late) => goOn(checked(link.name, late)),
        (error: unknown) => goOn(failed(link.name, error)),
      );
    }
    const end = note(link, verdict, progress);
    if (end) return end;
  }
  return passed(progress);
}

function decide(
  { name, guard }: Link,
  { request, context }: Progress,
): Verdict<unknown> | Promise<Verdict<unknown>> {
  try {
    const verdict = guard(request, context as never);
    // Any thenable will do: what awaits a promise awaits it as well.
    return 'then' in verdict ? Promise.resolve(verdict) : checked(name, verdict);
  } catch (error) {
    return failed(name, error);
  }
}

function checked(guard: string, verdict: Verdict<unknown>): Verdict<unknown> {
  if (!isVerdict(verdict)) {
    return failed(guard, new TypeError('a guard must return a Pass or a Reply'));
  }
  try {
    // Here, so that the answer in its place has the headers of those that passed, and is the one that they learn of.
    assertSendable(verdict);
    return verdict;
  } catch (error) {
    const reply = failed(guard, error);
    return !verdict.pass && verdict.handled ? { ...reply, handled: verdict.handled } : reply;
  }
}

/** A body that cannot be read is the caller's doing; whatever else a guard throws is ours, and nobody else's business. */
function failed(guard: string, error: unknown): Reply {
  const refusal = refusalOf(error);
  if (refusal) return refusal;
  reportGuardFailure({ guard, error });
  return unnoticed;
}

/** Takes down what a guard decided; answers with the reply when the chain ends here. */
function note(
  { name }: Link,
  verdict: Verdict<unknown>,
  progress: Progress,
): Reply | Promise<Reply> | undefined {
  if (!verdict.pass) return refused(verdict, progress);
  progress.context[name] = verdict.context;
  if (verdict.headers) progress.headers = joined(progress.headers, verdict.headers);
  if (verdict.settle) progress.settlers.push({ name, pass: verdict });
  if (verdict.explain) progress.explainers.push({ name, pass: verdict });
  return undefined;
}

/** The guards that let the request pass learn how it ended, before the caller does. */
function refused(given: Reply, progress: Progress): Reply | Promise<Reply> {
  const { headers, settlers, explainers } = progress;
  const reply = retold(given, (failure) => explained(explainers, failure));
  const answer =
    headers.length === 0 ? reply : { ...reply, headers: joined(headers, reply.headers) };
  if (settlers.length === 0) return answer;
  const body = typeof answer.body === 'string' ? Buffer.from(answer.body) : answer.body;
  const outcome: Outcome = {
    status: answer.status,
    headers: answer.headers,
    body: body ?? new Uint8Array(),
    aborted: false,
    ...(answer.handled === undefined && { refused: true }),
  };
  return settleAll(settlers, outcome).then(() => answer);
}

function passed({ context, headers, settlers, explainers }: Progress): Pass<object> {
  const explain = (failure: Failure): Reply | undefined => explained(explainers, failure);
  const explaining = explainers.length === 0 ? {} : { explain };
  if (settlers.length === 0) return { pass: true, context, headers, ...explaining };
  return {
    pass: true,
    context,
    headers,
    ...explaining,
    settle: (outcome) => settleAll(settlers, outcome),
    streaming: settlers.map(({ pass }) => pass.streaming).reduce(strictest, undefined),
  };
}

/** Who needs another answer in place of a stream has its way; then who wants it held back. */
export function strictest(
  a: Streaming | undefined,
  b: Streaming | undefined,
): Streaming | undefined {
  return typeof b === 'function' ? b : (a ?? b);
}

/** What a handler threw is explained once. */
export function retold(reply: Reply, explain: (failure: Failure) => Reply | undefined): Reply {
  const { status, handled } = reply;
  if (handled?.error === undefined || handled.explained) return reply;
  const better = explain({ status, error: handled.error });
  return better ? { ...better, handled: { ...handled, explained: true } } : reply;
}

/** The innermost that has an answer. */
function explained(explainers: readonly Settler[], failure: Failure): Reply | undefined {
  for (const { name, pass } of explainers.toReversed()) {
    try {
      const reply = explanationOf(pass, failure);
      if (reply) return reply;
    } catch (error) {
      reportGuardFailure({ guard: name, error });
    }
  }
  return undefined;
}

/** @throws TypeError for what is no answer: without types it may be anything. */
export function explanationOf(
  pass: Pick<Pass<unknown>, 'explain'>,
  failure: Failure,
): Reply | undefined {
  const reply = pass.explain?.(failure);
  if (!reply || isReply(reply)) return reply;
  throw new TypeError('explain must return a Reply, or undefined');
}

/** From the innermost outward. One that fails is reported and does not keep the others from learning. */
async function settleAll(settlers: readonly Settler[], outcome: Outcome): Promise<void> {
  for (const { name, pass } of settlers.toReversed()) {
    try {
      await pass.settle?.(outcome);
    } catch (error) {
      reportSettleFailure({ guard: name, error });
    }
  }
}
