import type { Guard } from '@countersign/guard';
import { type CorsOptions, cors as policy } from './cors.ts';
import { problem } from './problem.ts';
import { type SecurityHeadersOptions, securityHeaders as serialise } from './security-headers.ts';

export type { Answer, Answered, AnswerOptions, Refusal } from './answer.ts';
export { answer, refuse } from './answer.ts';
export type { BodyLimitOptions } from './body-limit.ts';
export { bodyLimit } from './body-limit.ts';
export { correlationId } from './correlation-guard.ts';
export type { Endpoint, EndpointContext, EndpointOptions, Endpoints } from './endpoint.ts';
export { endpoint, endpoints } from './endpoint.ts';
export type { EndpointDescription, Exemptions } from './endpoint-description.ts';
export type { ErrorMapperOptions, MappedError } from './error-mapper.ts';
export { errorMapper } from './error-mapper.ts';
export type { InputGuardOptions } from './input-guard.ts';
export { input, upload } from './input-guard.ts';
export type {
  Ability,
  AbilityOptions,
  Identified,
  Owned,
  OwnerOptions,
  OwnerRefusal,
  Ownership,
  OwnershipOptions,
  OwnershipRule,
} from './owner.ts';
export { ability, owner } from './owner.ts';
export type { RequestLogOptions } from './request-log.ts';
export { requestLog } from './request-log.ts';
export type { ParamsOf } from './route-pattern.ts';

/**
 * A guard that lets every request pass and puts the security headers on its response, whatever it is.
 * @throws TypeError for the mistakes that `securityHeaders` names.
 */
export function securityHeaders(options: SecurityHeadersOptions): Guard<undefined> {
  const headers = serialise(options);
  return ({ path, secure }) => {
    const { [secure ? 'secure' : 'insecure']: lines } = headers.at(path);
    return { pass: true, context: undefined, headers: lines };
  };
}

/** What the CORS guard found: whether a browser will show the answer to the page that asked. */
export interface CorsContext {
  readonly kind: 'same-origin' | 'allowed' | 'refused';
}

/** What the CORS guard takes. */
export interface CorsGuardOptions extends CorsOptions {
  /**
   * Answers requests of other origins that are not allowed with 403 instead of running the handler, their preflights as well. Default false: CORS
   * decides who may read an answer, and callers that are no browsers send no `Origin` at all. Pages of the service's own origin send theirs with every
   * `POST`: they pass by `Sec-Fetch-Site`, which pages cannot write.
   */
  readonly refuse?: boolean;
}

const forbidden = problem({ status: 403 });

/**
 * A guard that applies a CORS policy: answers preflights itself with 204, and puts on every other response what the browser must know. Mount it before
 * whatever identifies the caller, because a preflight carries no credentials (Fetch §3.3.2).
 * @throws TypeError for the mistakes that `cors` names.
 */
export function cors({ refuse = false, ...options }: CorsGuardOptions): Guard<CorsContext> {
  if (typeof refuse !== 'boolean') throw new TypeError('cors: refuse must be true or false');
  const decide = policy(options);
  return (request) => {
    const { kind, headers } = decide({
      method: request.method,
      // Two Origin fields are one that is not known: joined, they are no origin.
      origin: request.headers.get('origin'),
      requestMethod:
        request.method === 'OPTIONS'
          ? request.headers.get('access-control-request-method')
          : undefined,
    });
    if (kind === 'preflight') return { pass: false, status: 204, headers };
    const isForeign = kind === 'refused' || kind === 'refused-preflight';
    if (isForeign && refuse && request.headers.get('sec-fetch-site') !== 'same-origin') {
      return { ...forbidden, headers: [...headers, ...forbidden.headers] };
    }
    if (kind === 'refused-preflight') return { pass: false, status: 204, headers };
    return { pass: true, context: { kind }, headers };
  };
}
