/**
 * One timer for many deadlines. Asking for a time costs a comparison unless it comes before all others asked for; who is rung
 * looks what is due and asks again for the next. So a call that is answered in time sets and clears no timer of its own.
 */
export class Alarm {
  readonly #look: () => void;
  readonly #keepsAlive: boolean;
  #timer: NodeJS.Timeout | undefined;
  #dueAt = Number.POSITIVE_INFINITY;

  /** @param keepsAlive - whether the process has to wait for it: `false` where a socket keeps it alive for who waits. */
  constructor(look: () => void, keepsAlive: boolean) {
    this.#look = look;
    this.#keepsAlive = keepsAlive;
  }

  /** Rings at this time of `performance.now()` or soon after it. */
  by(dueAt: number): void {
    if (dueAt >= this.#dueAt) return;
    this.clear();
    this.#dueAt = dueAt;
    this.#timer = setTimeout(() => this.#ring(), Math.max(1, Math.ceil(dueAt - performance.now())));
    if (!this.#keepsAlive) this.#timer.unref();
  }

  clear(): void {
    clearTimeout(this.#timer);
    this.#dueAt = Number.POSITIVE_INFINITY;
  }

  #ring(): void {
    this.#dueAt = Number.POSITIVE_INFINITY;
    // When the loop was blocked, answers that came in time still lie in the socket: they are read before this runs.
    setImmediate(this.#look);
  }
}
