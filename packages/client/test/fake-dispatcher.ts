import { Dispatcher } from 'undici';

/** What becomes of one attempt. */
export interface Reply {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
  /** Instead of a response: an error with this code. */
  readonly errorCode?: string;
  /** When it comes, in milliseconds; `Infinity`: never. */
  readonly afterMs?: number;
  /** How much later than its head the body comes, in milliseconds. */
  readonly bodyAfterMs?: number;
}

export interface SentRequest {
  readonly atMs: number;
  readonly options: Dispatcher.DispatchOptions;
  readonly headers: Readonly<Record<string, string>>;
  aborted: boolean;
}

/** A dispatcher without a network: on fake timers a call takes no time at all. */
export class FakeDispatcher extends Dispatcher {
  readonly requests: SentRequest[] = [];
  readonly #reply: (index: number, options: Dispatcher.DispatchOptions) => Reply;

  constructor(reply: (index: number, options: Dispatcher.DispatchOptions) => Reply) {
    super();
    this.#reply = reply;
  }

  override dispatch(
    options: Dispatcher.DispatchOptions,
    handler: Dispatcher.DispatchHandler,
  ): boolean {
    const headers = options.headers as Record<string, string>;
    const request: SentRequest = { atMs: performance.now(), options, headers, aborted: false };
    this.requests.push(request);
    let timer: NodeJS.Timeout | undefined;
    const controller: Dispatcher.DispatchController = {
      aborted: false,
      paused: false,
      reason: null,
      abort(reason: Error) {
        request.aborted = true;
        clearTimeout(timer);
        handler.onResponseError?.(controller, reason);
      },
      pause() {},
      resume() {},
    };
    const reply = this.#reply(this.requests.length - 1, options);
    // A certificate is looked at before the request begins.
    if (!reply.errorCode?.startsWith('CERT_')) handler.onRequestStart?.(controller, null);
    const answer = (): void => {
      if (request.aborted) return;
      if (reply.errorCode !== undefined) {
        const error = Object.assign(new Error(reply.errorCode), { code: reply.errorCode });
        handler.onResponseError?.(controller, error);
        return;
      }
      const { status = 200, headers: sent = {}, body = '' } = reply;
      handler.onResponseStart?.(controller, status, { ...sent });
      const finish = (): void => {
        if (body.length > 0 && !request.aborted) {
          handler.onResponseData?.(controller, Buffer.from(body));
        }
        if (!request.aborted) handler.onResponseEnd?.(controller, {});
      };
      if (reply.bodyAfterMs === undefined) finish();
      else timer = setTimeout(finish, reply.bodyAfterMs);
    };
    if (reply.afterMs === undefined) answer();
    else if (reply.afterMs !== Infinity) timer = setTimeout(answer, reply.afterMs);
    return true;
  }
}
