import type { Duplex } from 'node:stream';
import type { Dispatcher } from 'undici';
import type { ResponseHeaders } from './headers.ts';

type Handler = Dispatcher.DispatchHandler;
type Controller = Dispatcher.DispatchController;

/** What a layer wants to know of a request that passes through it. */
export interface PassageHooks {
  /** The head of the response is there. */
  readonly answered?: (status: number) => void;
  /** It is over, however it ended; called once. `aborted`: its caller gave up. */
  readonly over?: (end: { readonly error?: Error; readonly aborted: boolean }) => void;
}

/**
 * One request on its way through a layer. Its caller has a controller from the start, so that it can give up while the
 * layer still waits for something, and hears of the end once.
 */
export class Passage implements Handler, Controller {
  readonly #outer: Handler;
  readonly #hooks: PassageHooks;
  #inner: Controller | undefined;
  #ended = false;
  #reason: Error | null = null;

  constructor(outer: Handler, hooks: PassageHooks) {
    this.#outer = outer;
    this.#hooks = hooks;
    outer.onRequestStart?.(this, {});
  }

  get ended(): boolean {
    return this.#ended;
  }

  get aborted(): boolean {
    return this.#reason !== null;
  }

  get reason(): Error | null {
    return this.#reason;
  }

  get paused(): boolean {
    return this.#inner?.paused ?? false;
  }

  pause(): void {
    this.#inner?.pause();
  }

  resume(): void {
    this.#inner?.resume();
  }

  /** The caller gives up. */
  abort(reason: Error): void {
    this.#end(reason, true);
  }

  /** The layer ends it. */
  stop(error: Error): void {
    this.#end(error, false);
  }

  onRequestStart(inner: Controller): void {
    this.#inner = inner;
    if (this.#reason) inner.abort(this.#reason);
  }

  onRequestUpgrade(
    inner: Controller,
    status: number,
    headers: ResponseHeaders,
    socket: Duplex,
  ): void {
    if (!this.#over()) return;
    this.#hooks.over?.({ aborted: false });
    this.#outer.onRequestUpgrade?.(inner, status, headers, socket);
  }

  onResponseStart(
    inner: Controller,
    status: number,
    headers: ResponseHeaders,
    statusText?: string,
  ): void {
    if (this.#ended) return;
    if (status >= 200) this.#hooks.answered?.(status);
    this.#outer.onResponseStart?.(inner, status, headers, statusText);
  }

  onResponseData(inner: Controller, chunk: Buffer): void {
    if (!this.#ended) this.#outer.onResponseData?.(inner, chunk);
  }

  onResponseEnd(inner: Controller, trailers: ResponseHeaders): void {
    if (!this.#over()) return;
    this.#hooks.over?.({ aborted: false });
    this.#outer.onResponseEnd?.(inner, trailers);
  }

  onResponseError(inner: Controller, error: Error): void {
    if (!this.#over()) return;
    this.#hooks.over?.({ error, aborted: false });
    this.#outer.onResponseError?.(inner, error);
  }

  onResponseStarted(): void {
    this.#outer.onResponseStarted?.();
  }

  onBodySent(chunk: Buffer): void {
    this.#outer.onBodySent?.(chunk);
  }

  onRequestSent(): void {
    this.#outer.onRequestSent?.();
  }

  #end(error: Error, aborted: boolean): void {
    if (!this.#over()) return;
    this.#reason = error;
    this.#hooks.over?.({ error, aborted });
    this.#inner?.abort(error);
    this.#outer.onResponseError?.(this, error);
  }

  /** `false` when it was over already. */
  #over(): boolean {
    if (this.#ended) return false;
    this.#ended = true;
    return true;
  }
}
