import { IdempotencyError } from './errors.ts';
import { publish } from './events.ts';
import type { HeldClaim, IdempotencyStore } from './store.ts';

type Operation = 'renew' | 'complete' | 'release' | 'abandon';

/**
 * The owner's hold on a record: renewed three times per lease until it is settled. A settlement that the store could
 * not take is tried again at the same pace for one more lease.
 */
export class Lease {
  readonly claim: HeldClaim;
  /** Somebody ran the request before and never said how it ended. */
  readonly recovered: boolean;
  readonly #store: IdempotencyStore;
  readonly #now: () => number;
  readonly #timer: NodeJS.Timeout;
  #controller: AbortController | undefined;
  #operation: Operation = 'renew';
  #payload: Uint8Array = new Uint8Array();
  #validUntil: number;
  #isOver = false;
  #isLost = false;

  constructor(
    store: IdempotencyStore,
    claim: HeldClaim,
    options: {
      readonly recovered: boolean;
      /** When the store was asked: the lease cannot have begun earlier. */
      readonly askedAt: number;
      readonly now: () => number;
    },
  ) {
    this.claim = claim;
    this.recovered = options.recovered;
    this.#store = store;
    this.#now = options.now;
    this.#validUntil = options.askedAt + claim.leaseMs;
    this.#timer = setInterval(() => void this.#tick(), Math.ceil(claim.leaseMs / 3));
    this.#timer.unref();
  }

  /** Aborts when the lease is lost, with `ERR_IDEMPOTENCY_LEASE_LOST`. */
  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.#isLost) this.#controller.abort(lost());
    return this.#controller.signal;
  }

  /** Stores the outcome. False: somebody else has taken the record over, and nothing was stored. */
  async complete(payload: Uint8Array): Promise<boolean> {
    this.#payload = payload;
    return await this.#settle('complete');
  }

  /** Says that the request was not executed. */
  async release(): Promise<boolean> {
    return await this.#settle('release');
  }

  /** Says that nobody knows whether the request was executed. */
  async abandon(): Promise<boolean> {
    return await this.#settle('abandon');
  }

  async #settle(operation: Operation): Promise<boolean> {
    this.#operation = operation;
    this.#validUntil = this.#now() + this.claim.leaseMs;
    return await this.#ask();
  }

  async #tick(): Promise<void> {
    try {
      await this.#ask();
    } catch {
      if (this.#now() < this.#validUntil) return;
      // The owner can no longer be sure that nobody else runs the request.
      this.#lose();
      if (this.#operation !== 'renew') this.#end();
    }
  }

  async #ask(): Promise<boolean> {
    const operation = this.#operation;
    const askedAt = this.#now();
    const isHeld = await this.#perform(operation);
    // A settlement that began meanwhile has the say, and may have made this renewal come too late.
    if (operation !== this.#operation || this.#isOver) return isHeld;
    if (operation === 'renew') this.#validUntil = askedAt + this.claim.leaseMs;
    if (operation !== 'renew' || !isHeld) this.#end();
    if (!isHeld) this.#lose();
    else this.#report(operation);
    return isHeld;
  }

  async #perform(operation: Operation): Promise<boolean> {
    const { claim } = this;
    try {
      return operation === 'complete'
        ? await this.#store.complete(claim, this.#payload)
        : await this.#store[operation](claim);
    } catch (error) {
      publish('store-error', { id: claim.id, operation, error });
      throw error;
    }
  }

  #end(): void {
    this.#isOver = true;
    clearInterval(this.#timer);
  }

  #lose(): void {
    if (this.#isLost) return;
    this.#isLost = true;
    const { id, fence } = this.claim;
    publish('lease-lost', { id, fence });
    this.#controller?.abort(lost());
  }

  #report(operation: Operation): void {
    const { id, fence } = this.claim;
    if (operation === 'complete') publish('completed', { id, fence, bytes: this.#payload.length });
    if (operation === 'release') publish('released', { id, fence });
    if (operation === 'abandon') publish('abandoned', { id, fence });
  }
}

function lost(): IdempotencyError {
  return new IdempotencyError(
    'ERR_IDEMPOTENCY_LEASE_LOST',
    'the lease was lost: another owner may run this request',
  );
}
