import { randomUUID } from 'node:crypto';
import { assertKnown } from './options.ts';
import { formatTraceparent, isTracestate, parseTraceparent } from './trace-context.ts';

/** What `correlationId` takes. */
export interface CorrelationIdOptions {
  /** Makes the id of a request that brings none: 1 to 64 characters of `A-Z a-z 0-9 _ -`. Default a random UUID. */
  readonly generate?: () => string;
}

/** The fields of a request that say what it belongs to; every line of them. */
export interface CorrelationFields {
  readonly requestId: readonly string[];
  readonly traceparent: readonly string[];
  readonly tracestate: readonly string[];
  /** Whether they come from somebody whose word counts. Of anybody else nothing is taken over. */
  readonly trusted: boolean;
}

/** What a request belongs to. */
export interface Correlation {
  /** For logs, and for callers to name the request by: on the response as `X-Request-Id`. */
  readonly id: string;
  readonly traceId: string;
  /** Of the work on this request. */
  readonly spanId: string;
  /** The caller's span, when its trace goes on. */
  readonly parentId?: string;
  readonly sampled: boolean;
  /** The field to send with calls that this request causes. */
  readonly traceparent: string;
  /** As received, when the caller's trace goes on. */
  readonly tracestate?: string;
}

const idPattern = /^[\w-]{1,64}$/;

/**
 * Decides by which id a request is known. One that is sent counts when a trusted proxy sent it, once, and it has 1 to 64 characters of
 * `A-Z a-z 0-9 _ -`; so does a trace (W3C Trace Context). Otherwise both are made.
 * @throws TypeError for an unknown option. The returned function throws a TypeError when `generate` makes what is no id.
 */
export function correlationId(
  options: CorrelationIdOptions = {},
): (fields: CorrelationFields) => Correlation {
  assertKnown('correlationId', options, ['generate']);
  const { generate = randomUUID } = options;
  if (typeof generate !== 'function') {
    throw new TypeError('correlationId: generate must be a function');
  }
  return ({ requestId, traceparent, tracestate, trusted }) => {
    const caller =
      trusted && traceparent.length === 1 ? parseTraceparent(traceparent[0] ?? '') : undefined;
    const trace = {
      traceId: caller?.traceId ?? randomHex(32),
      spanId: randomHex(16),
      sampled: caller?.sampled ?? false,
    };
    const state = tracestate.join(',');
    return {
      id: received(trusted, requestId) ?? made(generate),
      ...trace,
      traceparent: formatTraceparent({ ...trace, parentId: trace.spanId }),
      ...(caller && { parentId: caller.parentId }),
      ...(caller && isTracestate(state) && { tracestate: state }),
    };
  };
}

function received(trusted: boolean, lines: readonly string[]): string | undefined {
  const [id = ''] = lines;
  return trusted && lines.length === 1 && idPattern.test(id) ? id : undefined;
}

function made(generate: () => string): string {
  const id = generate();
  if (typeof id === 'string' && idPattern.test(id)) return id;
  throw new TypeError('correlationId: generate must return 1 to 64 characters of A-Z a-z 0-9 _ -');
}

/** From UUIDs, whose entropy node:crypto has in store. What is fixed in them keeps an id from being all zeros, which would be none. */
function randomHex(digits: 16 | 32): string {
  return randomUUID().replaceAll('-', '').slice(-digits);
}
