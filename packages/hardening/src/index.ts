export type { Cors, CorsDecision, CorsOptions, CorsRequest, SubdomainsOf } from './cors.ts';
export { cors } from './cors.ts';
export type { FieldError, HardeningErrorCode } from './errors.ts';
export { HardeningError } from './errors.ts';
export type { HardeningEvents } from './events.ts';
export type {
  HeaderEntry,
  SecurityHeaders,
  SecurityHeadersOptions,
  StrictTransportSecurity,
} from './security-headers.ts';
export { securityHeaders } from './security-headers.ts';
