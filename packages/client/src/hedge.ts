/** How {@link hedge} races. */
export interface HedgeOptions<T> {
  /** How long the first may take before the second is sent, in milliseconds. */
  readonly afterMs: number;
  readonly signal: AbortSignal | undefined;
  /** Asked once, when the first is slow. */
  readonly mayHedge: () => boolean;
  /** Whether a result ends the race although the other one is still under way. */
  readonly isGood: (result: T) => boolean;
  /** Which of two results that are not good is the outcome. */
  readonly worse: (one: T, other: T) => T;
}

/**
 * Sends a second time when the first answer is slow to come, and takes the first good answer of the two; the other is
 * aborted. For calls that change nothing.
 */
export async function hedge<T>(
  send: (signal: AbortSignal, index: number) => Promise<T>,
  options: HedgeOptions<T>,
): Promise<{ readonly outcome: T; readonly sent: number }> {
  const { afterMs, signal, mayHedge, isGood, worse } = options;
  const arms: AbortController[] = [];
  const start = (): Promise<T> => {
    const arm = new AbortController();
    arms.push(arm);
    const either = signal ? AbortSignal.any([signal, arm.signal]) : arm.signal;
    return send(either, arms.length - 1);
  };
  const first = start();
  let timer: NodeJS.Timeout | undefined;
  const slow = new Promise<'slow'>((resolve) => {
    timer = setTimeout(() => resolve('slow'), afterMs);
  });
  try {
    const early = await Promise.race([first, slow]);
    if (early !== 'slow' || !mayHedge()) return { outcome: await first, sent: 1 };
    const second = start();
    const [winner, other] = await Promise.race([
      first.then((outcome) => [outcome, second] as const),
      second.then((outcome) => [outcome, first] as const),
    ]);
    if (isGood(winner)) return { outcome: winner, sent: 2 };
    const last = await other;
    return { outcome: isGood(last) ? last : worse(winner, last), sent: 2 };
  } finally {
    clearTimeout(timer);
    for (const arm of arms) arm.abort(new Error('another attempt was faster'));
  }
}
