import * as z from 'zod';
import { publish } from './events.ts';

/**
 * Has a schema refuse what a check or transformation in it throws at: it has met something that it was not made for, and what was sent is to blame. No error
 * may pass through zod's objects and lists: for each one that does, zod keeps what they had read so far, for ever (`open` in its memoizer).
 * @param schema - a copy that nobody else has.
 */
export function caught<Schema extends z.core.$ZodType>(schema: Schema): Schema {
  const { run } = schema._zod;
  schema._zod.run = (payload, context) => {
    try {
      return run(payload, context);
    } catch (error) {
      if (error instanceof z.core.$ZodAsyncError) throw error;
      // Who waits for a check wants to know what it threw.
      if (context.async) return Promise.reject(error);
      publish('input-check-failed', () => ({ error }));
      payload.issues.push({ code: 'custom', params: { code: 'check_failed' }, input: undefined });
      return payload;
    }
  };
  return schema;
}
