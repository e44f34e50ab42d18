export { type EgressAgentOptions, egressAgent } from './agent.ts';
export { EgressError, type EgressErrorCode } from './errors.ts';
export type { EgressDenied } from './events.ts';
export { assertAllowed, type EgressPolicyOptions } from './policy.ts';
