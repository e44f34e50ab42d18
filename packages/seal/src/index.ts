export { SealError, type SealErrorCode } from './errors.ts';
export type { SealKey, SealKeySource } from './key.ts';
export { createSeal, isSealed, type PromptSeal, type Seal } from './seal.ts';
