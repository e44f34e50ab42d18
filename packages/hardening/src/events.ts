import { type Channel, channel } from 'node:diagnostics_channel';
import type { FieldError, HardeningErrorCode } from './errors.ts';

/** What is published as `countersign:hardening:error-answered`. */
export interface AnsweredError {
  /** What the caller was told. */
  readonly status: number;
  /** What was thrown; undefined where the framework answered by itself (404, 405). */
  readonly error: unknown;
  readonly requestId?: string;
}

/** What is published for each request as `countersign:hardening:request`. Never a body. */
export interface RequestLogEntry {
  readonly startedAtMs: number;
  /** Until the response was complete, before its first byte left. */
  readonly durationMs: number;
  readonly method: string;
  /** As received, without the query; segments that look like secrets are `[redacted]`. */
  readonly path: string;
  /** The matched pattern, where it is known. */
  readonly route?: string;
  /** At most 50 parameters. */
  readonly query: readonly (readonly [name: string, value: string])[];
  /** Of the fields to be logged, those that were sent. */
  readonly headers: Readonly<Record<string, string>>;
  readonly remoteAddress: string;
  readonly secure: boolean;
  /** 0 when the caller went away. */
  readonly status: number;
  readonly aborted: boolean;
  /** Whether a guard answered instead of the handler. */
  readonly refused: boolean;
  readonly requestId?: string;
}

/** Published on `node:diagnostics_channel` as `countersign:hardening:<event>`. None contains a value that was sent, but for errors of yours. */
export interface HardeningEvents {
  /** `input` refused what was sent. */
  'input-refused': { readonly code: HardeningErrorCode; readonly errors: readonly FieldError[] };
  /** A refinement, transformation or message of yours threw on what was sent, which was refused. The error is as it was thrown: it may quote what was sent. */
  'input-check-failed': { readonly error: unknown };
  /** Somebody tried to set fields that `writable` does not let in. */
  'privileged-fields': {
    readonly fields: readonly string[];
    readonly action: 'refused' | 'ignored';
  };
  /** Somebody was kept from a resource by `owner` or `ability`. */
  'owner-refused': OwnerRefused;
  /** A role opened the resource of somebody else. */
  'owner-overridden': OwnerOverridden;
  /** A handler's result was not what the endpoint's schema says. */
  'output-mismatch': OutputMismatch;
  /** A request has been answered, behind `requestLog`. */
  request: RequestLogEntry;
  /** A request failed behind `errorMapper`. */
  'error-answered': AnsweredError;
}

/** Where a handler's result was not what the schema says. */
export interface OutputMismatch {
  readonly method: string;
  readonly route: string;
  /** At most ten places. Empty when the result could not be read. */
  readonly errors: readonly FieldError[];
}

/** Who was kept from what kind of resource, and why. */
export interface OwnerRefused {
  readonly method: string;
  /** The pattern that was matched, where it is known. */
  readonly route?: string;
  /** `anonymous`: nobody asked. `absent`: there is no such resource, or nobody owns it. `foreign`: it is somebody else's. */
  readonly reason: 'anonymous' | 'absent' | 'foreign';
  /** What the caller was told. */
  readonly status: 403 | 404;
  readonly principal?: string;
}

/** Which role let whom through to what is not theirs. */
export interface OwnerOverridden {
  readonly method: string;
  readonly route?: string;
  readonly principal: string;
  readonly role: string;
}

/** Whether anybody listens, for what would cost something before there is anything to report. */
export function isHeard(event: keyof HardeningEvents): boolean {
  return (channels.get(event) ?? open(event)).hasSubscribers;
}

const channels = new Map<string, Channel>();

/** Reports an event; `describe` is not even called when nobody listens. */
export function publish<E extends keyof HardeningEvents>(
  event: E,
  describe: () => HardeningEvents[E],
): void {
  const target = channels.get(event) ?? open(event);
  if (target.hasSubscribers) target.publish(describe());
}

// Kept: a channel that nobody holds is collected, and its subscribers with it.
function open(event: string): Channel {
  const opened = channel(`countersign:hardening:${event}`);
  channels.set(event, opened);
  return opened;
}
