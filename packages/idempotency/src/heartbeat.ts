/** Something that wants to be asked now and then whether it has anything to do. */
export interface Beating {
  beat(): void;
}

/**
 * One timer for all leases of a guard: a timer per request would cost more than the rest of a lease, and renewals that
 * fall together travel to Redis together. It stops by itself when it has found nobody to beat for.
 */
export class Heartbeat {
  readonly #periodMs: number;
  readonly #members = new Set<Beating>();
  #timer: NodeJS.Timeout | undefined;

  constructor(periodMs: number) {
    this.#periodMs = periodMs;
  }

  add(member: Beating): void {
    this.#members.add(member);
    this.#timer ??= setInterval(() => this.#beat(), this.#periodMs).unref();
  }

  remove(member: Beating): void {
    this.#members.delete(member);
  }

  #beat(): void {
    if (this.#members.size === 0) {
      clearInterval(this.#timer);
      this.#timer = undefined;
    }
    for (const member of this.#members) member.beat();
  }
}
