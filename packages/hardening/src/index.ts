export type {
  HeaderEntry,
  SecurityHeaders,
  SecurityHeadersOptions,
  StrictTransportSecurity,
} from './security-headers.ts';
export { securityHeaders } from './security-headers.ts';
