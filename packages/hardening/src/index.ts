export { assertBounded } from './assert-bounded.ts';
export type {
  ContentSecurityPolicy,
  ContentSecurityPolicyDirective,
} from './content-security-policy.ts';
export type { Correlation, CorrelationFields, CorrelationIdOptions } from './correlation-id.ts';
export { correlationId } from './correlation-id.ts';
export type { Cors, CorsDecision, CorsOptions, CorsRequest, SubdomainsOf } from './cors.ts';
export { cors } from './cors.ts';
export type { FieldError, HardeningErrorCode } from './errors.ts';
export { HardeningError } from './errors.ts';
export type { AnsweredError, HardeningEvents, RequestLogEntry } from './events.ts';
export type { Input, InputOptions } from './input.ts';
export { input } from './input.ts';
export type { InputBounds } from './json.ts';
export type { ListOptions } from './list.ts';
export { list } from './list.ts';
export type { NumFromText, NumFromTextOptions, NumOptions } from './num.ts';
export { num } from './num.ts';
export type { Output } from './output.ts';
export { output } from './output.ts';
export type {
  CursorPage,
  CursorPageOptions,
  OffsetPage,
  OffsetPageOptions,
  PageOptions,
} from './page.ts';
export { page } from './page.ts';
export type { PermissionsPolicy, PermissionsPolicyFeature } from './permissions-policy.ts';
export type {
  HeaderEntry,
  HeaderSet,
  ReferrerPolicy,
  SecurityHeaders,
  SecurityHeadersOptions,
  SecurityHeadersOverrides,
  SecurityHeadersProfile,
  StrictTransportSecurity,
} from './security-headers.ts';
export { securityHeaders } from './security-headers.ts';
export type { TextOptions } from './text.ts';
export { queryText, text } from './text.ts';
export type { TraceContext } from './trace-context.ts';
export { formatTraceparent, parseTraceparent } from './trace-context.ts';
export type { Upload, UploadedFile, UploadOptions, UploadType } from './upload.ts';
export { upload } from './upload.ts';
export type { Writable, WritableOptions } from './writable.ts';
export { writable } from './writable.ts';
