import { type Channel, channel } from 'node:diagnostics_channel';

/** Published on `countersign:egress:denied` whenever a request or a connection is refused. */
export interface EgressDenied {
  /** Scheme, host and port. */
  readonly origin: string;
  /** The address that was the reason, if it was one. */
  readonly address?: string;
  /** The message of the error. */
  readonly reason: string;
}

export const deniedChannel: Channel = channel('countersign:egress:denied');
