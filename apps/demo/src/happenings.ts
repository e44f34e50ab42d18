import { subscribe } from 'node:diagnostics_channel';

/** Something that a package said of its work, in one of the services. */
export interface Happening {
  readonly channel: string;
  readonly atMs: number;
  /** What of the message is text, a number, or a yes or no. */
  readonly details: Readonly<Record<string, string | number | boolean>>;
}

/** What is worth watching, by package. */
const watched: Readonly<Record<string, readonly string[]>> = {
  oauth: ['request', 'cache-hit', 'renewal', 'retry', 'failure'],
  client: ['call', 'retry', 'breaker', 'budget'],
  egress: ['denied'],
  guard: ['guard-error', 'handler-error', 'settle-error'],
  hardening: ['error-answered', 'input-refused', 'owner-refused', 'output-mismatch'],
  jwt: ['verified', 'refused', 'request-refused'],
  'api-keys': ['created', 'rotated', 'revoked', 'used', 'denied', 'store-error'],
  'rate-limit': ['refused', 'restricted', 'store-failed', 'store-recovered'],
  idempotency: ['started', 'completed', 'replayed', 'refused', 'released', 'store-error'],
  webhooks: ['received', 'processed', 'attempt', 'delivery'],
};

/** The longest text that is shown of a message: the other side of a call may have written it. */
const longestText = 100;

/** Reports what the packages say in this process from now on. */
export function watch(report: (happening: Happening) => void): void {
  for (const [name, events] of Object.entries(watched)) {
    for (const event of events) {
      const channel = `countersign:${name}:${event}`;
      subscribe(channel, (message) =>
        report({ channel, atMs: Date.now(), details: detailsOf(message) }),
      );
    }
  }
}

function detailsOf(message: unknown): Happening['details'] {
  const entries = Object.entries(message as object).flatMap(([name, value]) => {
    if (typeof value === 'string') return [[name, value.slice(0, longestText)]];
    return typeof value === 'number' || typeof value === 'boolean' ? [[name, value]] : [];
  });
  return Object.fromEntries(entries) as Happening['details'];
}
