import type { Batch } from './batch.ts';

/** Batches whose answers are to come, in the order in which they were sent: a list, which costs a lone call less than a set. */
export class Unanswered {
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

  delete(batch: Batch): void {
    batch.sent = false;
    if (batch.before) batch.before.after = batch.after;
    else this.#first = batch.after;
    if (batch.after) batch.after.before = batch.before;
    else this.#last = batch.before;
    batch.before = undefined;
    batch.after = undefined;
  }

  /** The one that it is at may be deleted meanwhile. */
  *[Symbol.iterator](): Generator<Batch> {
    for (let batch = this.#first; batch; ) {
      const { after } = batch;
      yield batch;
      batch = after;
    }
  }
}
