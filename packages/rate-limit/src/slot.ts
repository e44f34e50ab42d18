import { randomInt } from 'node:crypto';
import { assertInteger } from './options.ts';
import type { CompiledSet } from './policy-set.ts';

/** The name under which a check takes a slot, which nobody else has; 0: the set has none to take. */
export function slotFor({ leasesSlots }: CompiledSet): number {
  return leasesSlots ? randomInt(1, 2 ** 47) : 0;
}

/** @throws TypeError for what no check has answered: it would give nothing back, and nobody would be told. */
export function assertSlot(slot: number): void {
  assertInteger('slot', slot, Number.MAX_SAFE_INTEGER, 0);
}
