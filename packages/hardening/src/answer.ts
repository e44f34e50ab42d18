import { validateHeaderName, validateHeaderValue } from 'node:http';
import type { HeaderEntry, Reply } from '@countersign/guard';
import { assertKnown } from './options.ts';
import type { Output } from './output.ts';

/** What a handler answers besides its result. */
export interface AnswerOptions {
  /** 200 to 399. Default 200, or 204 for a result that is nothing. */
  readonly status?: number;
  /** Field lines such as `Location`. */
  readonly headers?: readonly HeaderEntry[];
}

/** A result with a status or headers of its own. Made by `answer` alone: no data from elsewhere can pass for one. */
export class Answer<Result> {
  readonly #result: Result;
  readonly #options: AnswerOptions;

  constructor(result: Result, options: AnswerOptions) {
    this.#result = result;
    this.#options = options;
  }

  get result(): Result {
    return this.#result;
  }
  get options(): AnswerOptions {
    return this.#options;
  }
}

/** A handler's refusal. Made by `refuse` alone: a result that looks like a reply is a result still, and held to the output's schema. */
export class Refusal {
  readonly #reply: Reply;

  constructor(reply: Reply) {
    this.#reply = reply;
  }

  get reply(): Reply {
    return this.#reply;
  }
}

/**
 * What a handler returns to give its result a status or headers: `answer(payment, { status: 201, headers: [['location', url]] })`. The result is held to the
 * output's schema as any other.
 * @throws TypeError for a status that is no success or redirection, for an unknown option, and for headers that HTTP does not allow.
 */
export function answer<Result>(result: Result, options: AnswerOptions = {}): Answer<Result> {
  assertKnown('answer', options, ['status', 'headers']);
  const { status = 200 } = options;
  if (!Number.isInteger(status) || status < 200 || status > 399) {
    throw new TypeError(
      'answer: status: expected 200 to 399; a handler refuses with refuse(problem(…))',
    );
  }
  assertSendable('answer', options.headers ?? []);
  return new Answer(result, options);
}

/**
 * What a handler returns in place of a result: `refuse(problem({ status: 409, title: 'Paid already' }))`. It is sent as it is.
 * @throws TypeError for a reply that is no error, and for headers that HTTP does not allow.
 */
export function refuse(reply: Reply): Refusal {
  if (!(reply?.pass === false && reply.status >= 400 && reply.status <= 599)) {
    throw new TypeError('refuse: expected a problem with a status from 400 to 599');
  }
  assertSendable('refuse', reply.headers);
  return new Refusal(reply);
}

/** Here, where the handler is that made them of something: what is found out later would take the place of all that the guards say. */
function assertSendable(what: string, headers: readonly HeaderEntry[]): void {
  if (!Array.isArray(headers)) throw new TypeError(`${what}: headers: expected a list of lines`);
  for (const [name, value] of headers) {
    validateHeaderName(name);
    validateHeaderValue(name, value);
  }
}

/** What a handler may return. */
export type Answered<Result> = Result | Answer<Result> | Refusal;

/** The reply that says what a handler returned. */
export function replyTo(returned: unknown, output: Output<unknown> | undefined): Reply {
  if (returned instanceof Refusal) return { ...returned.reply, handled: {} };
  const isAnswer = returned instanceof Answer;
  const result: unknown = isAnswer ? returned.result : returned;
  const { status, headers = [] } = isAnswer ? returned.options : {};
  const { body, type } = written(result, output);
  const hasType = headers.some(([name]) => name.toLowerCase() === 'content-type');
  return {
    pass: false,
    status: status ?? (body === undefined ? 204 : 200),
    headers: body === undefined || hasType ? headers : [['content-type', type], ...headers],
    ...(body !== undefined && { body }),
    handled: {},
  };
}

/** Bytes are sent as they are where no schema says what leaves. */
function written(
  result: unknown,
  output: Output<unknown> | undefined,
): { readonly body: string | Uint8Array | undefined; readonly type: string } {
  if (!output && result instanceof Uint8Array) {
    return { body: result, type: 'application/octet-stream' };
  }
  const body = output ? output.stringify(result) : (JSON.stringify(result) as string | undefined);
  return { body, type: 'application/json' };
}
