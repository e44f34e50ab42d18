import type { OptionNames } from '@countersign/options';
import type { EgressAgentOptions } from './agent.ts';

/** Of the agent, and of `assertAllowed` too: who shares the agent's options with it need not take them apart. */
export const optionNames: OptionNames<EgressAgentOptions> = {
  allow: true,
  deny: true,
  httpsOnly: true,
  minTlsVersion: true,
  tls: true,
  maxResponseBytes: true,
  connectTimeoutMs: true,
  headersTimeoutMs: true,
  bodyTimeoutMs: true,
  keepAliveTimeoutMs: true,
  connections: true,
  allowH2: true,
  proxy: true,
  lookup: true,
};
