export { type Chain, chain } from './chain.ts';
export type { GuardFailure } from './events.ts';
export { type ProblemDetails, problem } from './problem.ts';
export type { GuardRequest, RequestHeaders } from './request.ts';
export type { Guard, HeaderEntry, Outcome, Pass, Reply, Verdict } from './verdict.ts';
