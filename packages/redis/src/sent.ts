import type { Batch } from './batch.ts';

/** Batches whose answers are to come, in the order in which they were sent. A list costs a lone call less than a set. */
export class Sent {
  #first: Batch | undefined;
  #last: Batch | undefined;

  get empty(): boolean {
    return this.#first === undefined;
  }

  add(batch: Batch): void {
    batch.sent = true;
    batch.before = this.#last;
    if (this.#last) this.#last.after = batch;
    else this.#first = batch;
    this.#last = batch;
  }

  delete(batch: Batch): boolean {
    if (!batch.sent) return false;
    batch.sent = false;
    if (batch.before) batch.before.after = batch.after;
    else this.#first = batch.after;
    if (batch.after) batch.after.before = batch.before;
    else this.#last = batch.before;
    batch.before = undefined;
    batch.after = undefined;
    return true;
  }

  *[Symbol.iterator](): Generator<Batch> {
    for (let batch = this.#first; batch; ) {
      const { after } = batch;
      yield batch;
      batch = after;
    }
  }
}
