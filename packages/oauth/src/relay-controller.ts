import type { Dispatcher } from 'undici';

type Controller = Dispatcher.DispatchController;

/**
 * The one controller a caller holds while the requests behind it change. Undici makes a controller per dispatch; a
 * caller who paused or aborted the first would otherwise reach a request that is over.
 */
export class RelayController implements Controller {
  #target: Controller | undefined;
  #paused = false;
  #aborted: { readonly reason: Error } | undefined;

  follow(controller: Controller): void {
    this.#target = controller;
    if (this.#aborted) controller.abort(this.#aborted.reason);
    else if (this.#paused) controller.pause();
  }

  get abortedByCaller(): boolean {
    return this.#aborted !== undefined;
  }

  get aborted(): boolean {
    return this.#aborted !== undefined || (this.#target?.aborted ?? false);
  }

  get paused(): boolean {
    return this.#paused || (this.#target?.paused ?? false);
  }

  get reason(): Error | null {
    return this.#aborted?.reason ?? this.#target?.reason ?? null;
  }

  get rawHeaders(): NonNullable<Controller['rawHeaders']> | null {
    return this.#target?.rawHeaders ?? null;
  }

  get rawTrailers(): NonNullable<Controller['rawTrailers']> | null {
    return this.#target?.rawTrailers ?? null;
  }

  abort(reason: Error): void {
    this.#aborted ??= { reason };
    this.#target?.abort(reason);
  }

  pause(): void {
    this.#paused = true;
    this.#target?.pause();
  }

  resume(): void {
    this.#paused = false;
    this.#target?.resume();
  }
}
