export { type Chain, chain } from './chain.ts';
export { GuardError, type GuardErrorCode } from './errors.ts';
export type { GuardFailure, HandlerFailure } from './events.ts';
export { type ProblemDetails, problem } from './problem.ts';
export type { GuardRequest, RequestHeaders } from './request.ts';
export { route } from './route.ts';
export type {
  ContextOf,
  Failure,
  Guard,
  GuardContext,
  Handled,
  HeaderEntry,
  Outcome,
  Pass,
  Reply,
  Streaming,
  Verdict,
} from './verdict.ts';
