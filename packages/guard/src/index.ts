export type { GuardRequest, RequestHeaders } from './request.ts';
export type { Guard, HeaderEntry, Outcome, Pass, Reply, Verdict } from './verdict.ts';
