import { OAuthError, type OAuthErrorCode } from './errors.ts';

/** Ends the wait for what is not this call's alone. Nothing was sent: its code must say so, and not that an answer is due. */
export async function inTime<T>(
  work: Promise<T>,
  signal: AbortSignal,
  code: OAuthErrorCode,
  what: string,
): Promise<T> {
  let stop: (() => void) | undefined;
  const late = new Promise<never>((_, reject) => {
    stop = () => reject(new OAuthError(code, `${what} did not come in time`));
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop, { once: true });
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    if (stop) signal.removeEventListener('abort', stop);
  }
}
