import { IdempotencyError } from './errors.ts';
import { channels } from './events.ts';
import type { Heartbeat } from './heartbeat.ts';
import type { HeldClaim, IdempotencyStore } from './store.ts';

type Operation = 'renew' | 'complete' | 'release' | 'abandon';

/** What a lease needs besides its claim. */
export interface LeaseOptions {
  readonly store: IdempotencyStore;
  readonly heartbeat: Heartbeat;
  readonly now: () => number;
  /** When the store was asked for it: it cannot have begun earlier. */
  readonly askedAt: number;
  /** Somebody ran the request before and never said how it ended. */
  readonly recovered: boolean;
}

/** Six chances per lease to renew it, or to repeat what the store could not take. */
export const beatsPerLease = 6;

/**
 * The owner's hold on a record: renewed whenever a third of the lease has passed, until it is settled. A settlement that
 * the store could not take is tried again for one more lease.
 */
export class Lease {
  readonly claim: HeldClaim;
  readonly recovered: boolean;
  readonly #store: IdempotencyStore;
  readonly #heartbeat: Heartbeat;
  readonly #now: () => number;
  #controller: AbortController | undefined;
  #operation: Operation = 'renew';
  #payload: Uint8Array | undefined;
  #validUntil: number;
  #isAsking = false;
  #isOver = false;
  #isLost = false;
  #isStopped = false;

  constructor(claim: HeldClaim, { store, heartbeat, now, askedAt, recovered }: LeaseOptions) {
    this.claim = claim;
    this.recovered = recovered;
    this.#store = store;
    this.#heartbeat = heartbeat;
    this.#now = now;
    this.#validUntil = askedAt + claim.leaseMs;
    heartbeat.add(this);
  }

  /** Aborts when the lease is lost or given up, with `ERR_IDEMPOTENCY_LEASE_LOST`. */
  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.#isStopped) this.#controller.abort(lost());
    return this.#controller.signal;
  }

  /** Extends the lease now. False: somebody else has taken the record over. */
  renew(): Promise<boolean> {
    return this.#ask();
  }

  /**
   * Stores the outcome. False: somebody else has taken the record over, and nothing was stored. When there is none after
   * all (it could not be encrypted), nobody can know it, and the lease is given up.
   */
  complete(payload: Uint8Array | Promise<Uint8Array>): Promise<boolean> {
    if (payload instanceof Promise) {
      return payload.then(
        (bytes) => this.complete(bytes),
        async (error) => {
          await this.abandon().catch(() => {});
          throw error;
        },
      );
    }
    this.#payload = payload;
    return this.#settle('complete');
  }

  /** Says that the request was not executed. */
  release(): Promise<boolean> {
    return this.#settle('release');
  }

  /** Says that nobody knows whether the request was executed. A handler that still works on it is told to stop. */
  abandon(): Promise<boolean> {
    this.#stop();
    return this.#settle('abandon');
  }

  beat(): void {
    if (this.#isAsking) {
      this.#expire();
      return;
    }
    const { leaseMs } = this.claim;
    const leftMs = this.#validUntil - this.#now();
    // More than a whole lease is left when the clock was put back: nobody knows how old the lease is.
    const isFresh = leftMs * 3 > leaseMs * 2 && leftMs <= leaseMs;
    if (this.#operation !== 'renew' || !isFresh) this.#ask().catch(() => this.#expire());
  }

  /** Once the lease is over without an answer, the owner cannot be sure that nobody else runs the request. */
  #expire(): void {
    if (this.#now() < this.#validUntil) return;
    this.#lose();
    if (this.#operation !== 'renew') this.#end();
  }

  #settle(operation: Operation): Promise<boolean> {
    this.#operation = operation;
    this.#validUntil = this.#now() + this.claim.leaseMs;
    return this.#ask();
  }

  async #ask(): Promise<boolean> {
    const operation = this.#operation;
    const askedAt = this.#now();
    let isHeld: boolean;
    this.#isAsking = true;
    try {
      isHeld = await (operation === 'complete'
        ? this.#store.complete(this.claim, this.#payload as Uint8Array)
        : this.#store[operation](this.claim));
    } catch (error) {
      channels.storeError.publish({ id: this.claim.id, operation, error });
      throw error;
    } finally {
      this.#isAsking = false;
    }
    // A settlement that began meanwhile has the say, and may have made this renewal come too late.
    if (operation !== this.#operation || this.#isOver) return isHeld;
    this.#validUntil = askedAt + this.claim.leaseMs;
    if (operation !== 'renew' || !isHeld) this.#end();
    if (isHeld) this.#report(operation);
    else this.#lose();
    return isHeld;
  }

  #end(): void {
    this.#isOver = true;
    this.#heartbeat.remove(this);
  }

  #lose(): void {
    if (this.#isLost) return;
    this.#isLost = true;
    const { id, fence } = this.claim;
    // Without a fence it is a claim of which nobody knows whether it was granted, and nothing runs under it.
    if (fence > 0) channels.leaseLost.publish({ id, fence });
    this.#stop();
  }

  #stop(): void {
    this.#isStopped = true;
    this.#controller?.abort(lost());
  }

  #report(operation: Operation): void {
    if (operation === 'renew' || !channels[reports[operation]].hasSubscribers) return;
    const { id, fence } = this.claim;
    const bytes = this.#payload?.byteLength ?? 0;
    if (operation === 'complete') channels.completed.publish({ id, fence, bytes });
    else channels[reports[operation]].publish({ id, fence });
  }
}

const reports = { complete: 'completed', release: 'released', abandon: 'abandoned' } as const;

function lost(): IdempotencyError {
  return new IdempotencyError(
    'ERR_IDEMPOTENCY_LEASE_LOST',
    'the lease was lost: another owner may run this request',
  );
}
