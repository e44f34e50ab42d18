import type { EgressAgentOptions } from './agent.ts';

/** The name of every option: the compiler finds one that is missing. */
const names: Readonly<Record<keyof EgressAgentOptions, true>> = {
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

/**
 * Without types a misspelt `deny` would deny nothing, and a misspelt `allow` would allow every public address.
 * @throws TypeError naming the option that there is not.
 */
export function assertKnown(options: object): void {
  for (const name of Object.keys(options)) {
    if (!Object.hasOwn(names, name)) throw new TypeError(`${name}: there is no such option`);
  }
}
