import { expect } from 'vitest';
import type { JwtErrorCode } from '../src/index.ts';

/** Matches a `JwtError` with this code, for `rejects.toThrow` and `toThrow`. */
export function refusal(code: JwtErrorCode): Error {
  return expect.objectContaining({ name: 'JwtError', code }) as unknown as Error;
}
