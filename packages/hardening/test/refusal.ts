import { HardeningError } from '../src/index.ts';

/** The error that `run` is refused with. Anything else it throws is passed on; throwing nothing fails the test. */
export function refusal(run: () => unknown): HardeningError {
  try {
    run();
  } catch (error) {
    if (error instanceof HardeningError) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}
