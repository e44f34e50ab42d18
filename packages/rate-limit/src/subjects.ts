import { Generations } from './generations.ts';
import type { SubjectRecord } from './record.ts';
import { isScalar, load, save, widthOf } from './scalar.ts';
import { Slab } from './slab.ts';

/** The records of all subjects under one counter: as rows of numbers where they are a few numbers, else as objects. */
export class Subjects {
  readonly scalars: Slab;
  readonly #others: Generations<SubjectRecord>;

  /** @param maxSubjects - never more than this many are kept in either form. */
  constructor(maxSubjects: number) {
    this.scalars = new Slab(maxSubjects, widthOf(1));
    this.#others = new Generations(maxSubjects);
  }

  get size(): number {
    return this.scalars.size + this.#others.size;
  }

  /** A record to look at and to change; `set` keeps the changes. */
  get(subject: string): SubjectRecord | undefined {
    const offset = this.scalars.recall(subject);
    return offset < 0 ? this.#others.get(subject) : load(this.scalars.values, offset);
  }

  set(subject: string, record: SubjectRecord): void {
    if (!isScalar(record)) {
      this.scalars.delete(subject);
      this.#others.set(subject, record);
      return;
    }
    this.#others.delete(subject);
    this.scalars.widen(widthOf(record.states.length));
    const known = this.scalars.recall(subject);
    const offset = known < 0 ? this.scalars.add(subject) : known;
    save(this.scalars.values, offset, record);
  }

  delete(subject: string): void {
    this.scalars.delete(subject);
    this.#others.delete(subject);
  }
}
