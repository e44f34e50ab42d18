import type { Batch } from './batch.ts';

const maxLength = 64 * 1024 * 1024;

/** How many calls wait for something, and how much they hold in memory. */
export class Load {
  readonly #maxCalls: number;
  #calls = 0;
  #length = 0;

  constructor(maxCalls: number) {
    this.#maxCalls = maxCalls;
  }

  /** Whether so many more are not too many. One batch may go beyond the bound of their length. */
  hasRoomFor(batch: Batch): boolean {
    return this.#calls + batch.size <= this.#maxCalls && this.#length < maxLength;
  }

  /** Whether it is worth while to add again to what was full. */
  get low(): boolean {
    return this.#calls <= this.#maxCalls / 2 && this.#length <= maxLength / 2;
  }

  add(batch: Batch): void {
    this.#calls += batch.size;
    this.#length += batch.length;
  }

  remove(batch: Batch): void {
    this.#calls -= batch.size;
    this.#length -= batch.length;
  }

  clear(): void {
    this.#calls = 0;
    this.#length = 0;
  }
}
