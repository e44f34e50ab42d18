/** A fenced code block of a README that is marked as an example. */
export interface Example {
  readonly code: string;
  /** The line of the README where the block begins, counted from 1. */
  readonly line: number;
  /** What it needs besides Node: `redis`. */
  readonly needs: readonly string[];
}

/** The blocks of a README whose fence reads ```` ```ts example ````, with what they need behind it. */
export function examplesIn(markdown: string): readonly Example[] {
  return [...markdown.matchAll(/^```ts example(?<needs>[^\n]*)\n(?<code>.*?)^```$/gms)].map(
    (match) => ({
      code: match.groups?.['code'] ?? '',
      line: markdown.slice(0, match.index).split('\n').length,
      needs: (match.groups?.['needs'] ?? '').split(' ').filter(Boolean),
    }),
  );
}
