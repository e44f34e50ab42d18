export type { Cors, CorsDecision, CorsOptions, CorsRequest, SubdomainsOf } from './cors.ts';
export { cors } from './cors.ts';
export type {
  HeaderEntry,
  SecurityHeaders,
  SecurityHeadersOptions,
  StrictTransportSecurity,
} from './security-headers.ts';
export { securityHeaders } from './security-headers.ts';
