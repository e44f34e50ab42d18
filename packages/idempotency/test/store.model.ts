import type { Begun, Claim } from '@countersign/idempotency';

/** What a store must say, worked out in the plainest way: one record, no room limits, a clock that is told the time. */
export class RecordModel {
  state: 'absent' | 'processing' | 'unknown' | 'completed' | 'released' = 'absent';
  fence = 0;
  owner = '';
  fingerprint = '';
  recovered = false;
  payload = '';
  leaseUntil = 0;
  expiresAt = 0;
  now = 0;

  advance(ms: number): void {
    this.now += ms;
    if (this.state !== 'absent' && this.expiresAt <= this.now) this.state = 'absent';
  }

  /** The state that `begin` answers with, and whether the claim was granted over an unknown outcome. */
  begin(claim: Claim, takeover: boolean): { state: Begun['state']; recovered?: boolean } {
    const isFree = this.state === 'absent' || this.state === 'released';
    if (isFree) return this.#take(claim, false);
    if (this.state === 'processing' && this.owner === claim.owner) {
      return { state: 'acquired', recovered: this.recovered };
    }
    if (this.fingerprint !== claim.fingerprint) return { state: 'mismatch' };
    if (this.state === 'completed') return { state: 'completed' };
    if (this.state === 'processing' && this.leaseUntil > this.now) return { state: 'processing' };
    return takeover ? this.#take(claim, true) : { state: 'unknown' };
  }

  /** What the store answers to the holder of `fence`, or to one who held it. */
  change(
    operation: 'renew' | 'complete' | 'release' | 'abandon',
    claim: Claim & { fence: number },
    payload = '',
  ): boolean {
    if (this.state === 'absent' && operation === 'release') return true;
    const isOwners = this.state === 'processing' && this.owner === claim.owner;
    if (!isOwners && this.state !== 'absent') return this.#isSaidAgain(operation, claim.fence);
    const wasRecovered = isOwners && this.recovered;
    this.fence = claim.fence;
    this.owner = claim.owner;
    this.fingerprint = claim.fingerprint;
    this.recovered = wasRecovered;
    this.payload = payload;
    this.leaseUntil = this.now + claim.leaseMs;
    this.state = {
      renew: 'processing',
      complete: 'completed',
      abandon: 'unknown',
      release: wasRecovered ? 'unknown' : 'released',
    }[operation] as typeof this.state;
    this.expiresAt = this.now + (this.state === 'released' ? claim.leaseMs : claim.ttlMs);
    return true;
  }

  #take(claim: Claim, recovered: boolean): { state: 'acquired'; recovered: boolean } {
    this.state = 'processing';
    this.owner = claim.owner;
    this.fingerprint = claim.fingerprint;
    this.recovered = recovered;
    this.leaseUntil = this.now + claim.leaseMs;
    this.expiresAt = this.now + claim.ttlMs;
    return { state: 'acquired', recovered };
  }

  #isSaidAgain(operation: string, fence: number): boolean {
    const said: Record<string, readonly string[]> = {
      complete: ['completed'],
      release: ['released', 'unknown'],
      abandon: ['unknown'],
    };
    return this.fence === fence && (said[operation] ?? []).includes(this.state);
  }
}
