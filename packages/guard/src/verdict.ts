import type { GuardRequest } from './request.ts';

/** One header field line. The same name may occur several times. */
export type HeaderEntry = readonly [name: string, value: string];

/** A request that failed behind the guards: its handler threw, or the framework answers by itself (404, malformed JSON). */
export interface Failure {
  /** What the caller would be answered. */
  readonly status: number;
  /** What was thrown, where the adapter gets to see it. */
  readonly error?: unknown;
}

/** What became of a request that a guard let pass. */
export interface Outcome {
  /** The final status; 0 when `aborted`. */
  readonly status: number;
  /** The final header field lines, those of every guard included. */
  readonly headers: readonly HeaderEntry[];
  /** The whole body (empty for none). `undefined` when it is streamed or outgrew the adapter's `maxSettleBytes`. */
  readonly body?: Uint8Array;
  /** The caller went away and the handler never produced a response. */
  readonly aborted: boolean;
  /** A guard behind this one, or the framework with an error, answered: the handler was not called. */
  readonly refused?: true;
}

/** The request may go on. */
export interface Pass<C> {
  readonly pass: true;
  /** What the guard found out; `chain()` makes it available under the guard's name. */
  readonly context: C;
  /** Go on the final response, whatever it is. A list that is frozen, its entries too, is the same on many responses: it is checked and serialised once. */
  readonly headers?: readonly HeaderEntry[];
  /**
   * Sees the finished response (or the abort) exactly once, before its first byte is sent.
   * A rejection is reported on `countersign:guard:settle-error`; the response goes out all the same.
   */
  settle?(outcome: Outcome): void | Promise<void>;
  /**
   * Makes the answer to a request that fails behind the guard, in place of the problem with the status alone. The innermost guard that answers has its
   * way; with undefined it leaves that to those before it. One that throws is reported as a guard that did.
   */
  explain?(failure: Failure): Reply | undefined;
  /**
   * What becomes of a response that streams (`flushHeaders()`, `text/event-stream`) although `settle` has to see all of
   * it. `buffer`: it is held back until it is complete, or larger than `maxSettleBytes`. A function makes the answer that
   * is sent in its place, and that `settle` sees. Default: `settle` sees that there is no whole body, and it flows.
   */
  readonly streaming?: Streaming | undefined;
}

export type Streaming = 'buffer' | (() => Reply);

/** The request ends here, with this answer. */
export interface Reply {
  readonly pass: false;
  readonly status: number;
  readonly headers: readonly HeaderEntry[];
  readonly body?: Uint8Array | string;
  /** It was sent before, byte by byte as it is: what rewrites answers on their way out had its say then, and has none now. */
  readonly verbatim?: true;
  /** The answer of a handler that is mounted as a guard: to the guards that passed, and to `settle`, it is none of a refusal. */
  readonly handled?: Handled;
}

/** How a handler that is mounted as a guard came to its answer. */
export interface Handled {
  /** What it threw: reported as any handler's failure, and the answer is that of the innermost `explain`, if there is one. */
  readonly error?: unknown;
  /** The answer is that of an `explain` already. */
  readonly explained?: true;
}

/** What a guard decides. */
export type Verdict<C> = Pass<C> | Reply;

/** Without types a guard may return anything, and what is no verdict must let nobody pass. */
export function isVerdict(given: unknown): given is Verdict<unknown> {
  const { pass, headers } = (given ?? {}) as { pass?: unknown; headers?: unknown };
  if (pass !== true) return isReply(given);
  return headers === undefined || Array.isArray(headers);
}

export function isReply(given: unknown): given is Reply {
  const { pass, headers, body } = (given ?? {}) as { [member in keyof Reply]?: unknown };
  if (pass !== false || !Array.isArray(headers)) return false;
  return body == null || typeof body === 'string' || body instanceof Uint8Array;
}

/** Looks at a request, and at what the guards before it found out, and lets it pass or answers it. */
export interface Guard<C, In = object> {
  (request: GuardRequest, context: In): Verdict<C> | Promise<Verdict<C>>;
  /** It cannot do its work on a response that streams: where handlers are said to stream it is not mounted. */
  readonly refusesStreams?: boolean;
}

/** What a chain (or any guard) finds out: `ContextOf<typeof guards>`. */
// biome-ignore lint/suspicious/noExplicitAny: a guard's expectations do not matter here
export type ContextOf<G extends Guard<any, any>> = G extends Guard<infer C, any> ? C : never;

/**
 * What `req.guard` (Express) and `request.guard` (Fastify) hold. Their types cannot know your chain; tell them once:
 * `declare module '@countersign/guard' { interface GuardContext extends ContextOf<typeof guards> {} }`.
 */
// biome-ignore lint/suspicious/noEmptyInterface: made to be augmented
export interface GuardContext {}
