import { randomInt } from 'node:crypto';
import type { CompiledSet } from './policy-set.ts';

/** The name under which a check takes a slot, which nobody else has; 0: the set has none to take. */
export function slotFor({ leasesSlots }: CompiledSet): number {
  return leasesSlots ? randomInt(1, 2 ** 47) : 0;
}
