/** Where a request stands in a distributed trace (W3C Trace Context §3.2.2). */
export interface TraceContext {
  /** 32 hexadecimal digits, lower case, not all zero. */
  readonly traceId: string;
  /** The caller's span: 16 hexadecimal digits, lower case, not all zero. */
  readonly parentId: string;
  /** Whether the caller may have recorded its part. */
  readonly sampled: boolean;
}

const version00 =
  /^(?<version>[0-9a-f]{2})-(?<traceId>[0-9a-f]{32})-(?<parentId>[0-9a-f]{16})-(?<flags>[0-9a-f]{2})(?<rest>-.*)?$/;

/**
 * Reads a `traceparent` field.
 * @returns undefined for what is malformed: the trace begins anew then (§3.2.2.5). Of a later version it reads the part that this one knows (§3.2.4).
 */
export function parseTraceparent(text: string): TraceContext | undefined {
  // Later versions may be longer, but nothing that is sent for every request is this long.
  if (text.length > 256) return undefined;
  const {
    version,
    traceId = '',
    parentId = '',
    flags = '',
    rest,
  } = version00.exec(text)?.groups ?? {};
  if (version === undefined || version === 'ff') return undefined;
  if (version === '00' && rest !== undefined) return undefined;
  if (/^0+$/.test(traceId) || /^0+$/.test(parentId)) return undefined;
  return { traceId, parentId, sampled: (Number.parseInt(flags, 16) & 1) === 1 };
}

/** Writes a `traceparent` field of version 00. Of the flags it knows `sampled` only, and sets no other (§3.2.2.3). */
export function formatTraceparent({ traceId, parentId, sampled }: TraceContext): string {
  return `00-${traceId}-${parentId}-${sampled ? '01' : '00'}`;
}

/**
 * Whether `tracestate` field lines may be handed on (§3.3.1): at most 32 members `key=value` and 512 characters, no key twice.
 */
export function isTracestate(text: string): boolean {
  if (text.length > 512) return false;
  const members = text
    .split(',')
    .map((member) => member.trim())
    .filter((member) => member !== '');
  const keys = members.map((member) => member.slice(0, member.indexOf('=')));
  return (
    members.length > 0 &&
    members.length <= 32 &&
    new Set(keys).size === keys.length &&
    members.every((member) =>
      /^(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]$/.test(
        member,
      ),
    )
  );
}
