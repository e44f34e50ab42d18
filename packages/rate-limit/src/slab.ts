import { ownText } from './own-text.ts';

const firstEntries = 16;

/**
 * The same count of numbers for each of many subjects, side by side in one array: who asks for them touches one place in memory
 * instead of a chain of objects, and garbage collection has nothing to walk through. What was not touched for longest is
 * forgotten, about, as `Generations` does it: entries live in a young and an old generation, a touch makes an entry young, and a
 * full young generation becomes the old one.
 */
export class Slab {
  /** The numbers of an entry begin at its offset. Valid, as offsets are, until the next call. */
  values: Float64Array = new Float64Array(0);
  #offsets = new Map<string, number>();
  /** Offsets of entries that were deleted. */
  #free: number[] = [];
  #end = 0;
  #oldValues: Float64Array = new Float64Array(0);
  #oldOffsets = new Map<string, number>();
  readonly #half: number;
  #width: number;

  /**
   * @param maxEntries - never more than this many are kept.
   * @param width - how many numbers an entry has.
   */
  constructor(maxEntries: number, width: number) {
    this.#half = Math.max(1, Math.floor(maxEntries / 2));
    this.#width = width;
  }

  get size(): number {
    return this.#offsets.size + this.#oldOffsets.size;
  }

  /** The offset of an entry that is young; -1: there is none, or it must be recalled. */
  find(subject: string): number {
    return this.#offsets.get(subject) ?? -1;
  }

  /** The offset of an entry, which is young after that; -1: there is none. */
  recall(subject: string): number {
    const old = this.#oldOffsets.get(subject);
    if (old === undefined) return this.find(subject);
    const numbers = this.#oldValues.slice(old, old + this.#width);
    this.#oldOffsets.delete(subject);
    const offset = this.add(subject);
    this.values.set(numbers, offset);
    return offset;
  }

  /** The offset of a new entry, whatever its numbers are; there must be none of that name. */
  add(subject: string): number {
    if (this.#offsets.size >= this.#half) this.#age();
    const offset = this.#free.pop() ?? this.#append();
    this.#offsets.set(ownText(subject), offset);
    return offset;
  }

  delete(subject: string): void {
    const offset = this.#offsets.get(subject);
    if (offset !== undefined) this.#free.push(offset);
    this.#offsets.delete(subject);
    this.#oldOffsets.delete(subject);
  }

  /** Makes room for so many numbers in each entry. */
  widen(width: number): void {
    const narrow = this.#width;
    if (width <= narrow) return;
    const moved = (offset: number): number => (offset / narrow) * width;
    this.values = widened(this.values, narrow, width);
    this.#oldValues = widened(this.#oldValues, narrow, width);
    for (const offsets of [this.#offsets, this.#oldOffsets]) {
      for (const [subject, offset] of offsets) offsets.set(subject, moved(offset));
    }
    this.#free = this.#free.map(moved);
    this.#end = moved(this.#end);
    this.#width = width;
  }

  /** The young generation becomes the old one, whose array the next takes over. */
  #age(): void {
    [this.values, this.#oldValues] = [this.#oldValues, this.values];
    this.#oldOffsets = this.#offsets;
    this.#offsets = new Map();
    this.#free = [];
    this.#end = 0;
  }

  #append(): number {
    const offset = this.#end;
    this.#end += this.#width;
    if (this.#end > this.values.length) {
      const entries = Math.min(this.#half, Math.max(firstEntries, (2 * offset) / this.#width));
      const grown = new Float64Array(entries * this.#width);
      grown.set(this.values);
      this.values = grown;
    }
    return offset;
  }
}

function widened(values: Float64Array, narrow: number, width: number): Float64Array {
  const wide = new Float64Array((values.length / narrow) * width);
  for (let entry = 0; entry * narrow < values.length; entry += 1) {
    wide.set(values.subarray(entry * narrow, (entry + 1) * narrow), entry * width);
  }
  return wide;
}
