import type { Dispatcher } from 'undici';

/**
 * The one controller a caller holds while the requests behind it change. Undici makes a controller per dispatch; a
 * caller who paused or aborted the first would otherwise reach a request that is over.
 */
export interface RelayController extends Dispatcher.DispatchController {
  follow(controller: Dispatcher.DispatchController): void;
  readonly abortedByCaller: boolean;
}

export function relayController(): RelayController {
  let target: Dispatcher.DispatchController | undefined;
  let paused = false;
  let aborted: { reason: Error } | undefined;
  return {
    follow: (controller) => {
      target = controller;
      if (aborted) controller.abort(aborted.reason);
      else if (paused) controller.pause();
    },
    get abortedByCaller() {
      return aborted !== undefined;
    },
    get aborted() {
      return aborted !== undefined || (target?.aborted ?? false);
    },
    get paused() {
      return paused || (target?.paused ?? false);
    },
    get reason() {
      return aborted?.reason ?? target?.reason ?? null;
    },
    get rawHeaders() {
      return target?.rawHeaders ?? null;
    },
    get rawTrailers() {
      return target?.rawTrailers ?? null;
    },
    abort: (reason) => {
      aborted ??= { reason };
      target?.abort(reason);
    },
    pause: () => {
      paused = true;
      target?.pause();
    },
    resume: () => {
      paused = false;
      target?.resume();
    },
  };
}
