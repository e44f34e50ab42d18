import type { Guard, GuardRequest } from '@countersign/guard';
import {
  type Correlation,
  type CorrelationIdOptions,
  correlationId as correlate,
} from './correlation-id.ts';

/**
 * A guard that finds out, or makes up, the id a request is known by, and puts it on the response as `X-Request-Id`, whatever that is. What a request
 * says of itself counts when one of the adapter's `trustedProxies` sent it. Mount it first.
 * @throws TypeError for the mistakes that `correlationId` names.
 */
export function correlationId(options: CorrelationIdOptions = {}): Guard<Correlation> {
  const decide = correlate(options);
  return ({ headers, viaTrustedProxy = false }: GuardRequest) => {
    const context = decide({
      requestId: headers.all('x-request-id'),
      traceparent: headers.all('traceparent'),
      tracestate: headers.all('tracestate'),
      trusted: viaTrustedProxy,
    });
    return { pass: true, context, headers: [['X-Request-Id', context.id]] };
  };
}
