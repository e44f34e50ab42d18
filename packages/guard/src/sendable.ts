import { validateHeaderName, validateHeaderValue } from 'node:http';
import { GuardError } from './errors.ts';
import { staticBlock } from './response-headers.ts';
import type { HeaderEntry, Verdict } from './verdict.ts';

/**
 * What node:http would refuse to send (a line break in a value, say) is refused here, where it crashes nobody.
 * @throws GuardError `ERR_GUARD_INVALID_VERDICT`.
 */
export function assertSendable(verdict: Verdict<unknown>): void {
  const { headers = [] } = verdict;
  try {
    // A block has been found valid when it was made.
    for (let at = staticBlock(headers)?.length ?? 0; at < headers.length; at += 1) {
      const [name, value] = headers[at] as HeaderEntry;
      validateHeader(name, value);
    }
    if (verdict.pass || isFinalStatus(verdict.status)) return;
    throw new GuardError('ERR_GUARD_INVALID_VERDICT', `no final status: ${verdict.status}`);
  } catch (cause) {
    throw new GuardError('ERR_GUARD_INVALID_VERDICT', 'a guard decided what cannot be sent', {
      cause,
    });
  }
}

/** Names that were found valid. There are few of them, but somebody might make them up from what a caller sent. */
const validNames = new Set<string>();

function validateHeader(name: HeaderEntry[0], value: HeaderEntry[1]): void {
  if (!validNames.has(name)) {
    validateHeaderName(name);
    if (validNames.size < 1000) validNames.add(name);
  }
  validateHeaderValue(name, value);
}

function isFinalStatus(status: number): boolean {
  return Number.isInteger(status) && status >= 200 && status <= 599;
}
