import { assertKnown, type OptionNames } from '@countersign/options';
import { WebhookError } from './errors.ts';
import { type HeadersInput, headerReader } from './headers.ts';
import {
  type ImportedKey,
  importSecrets,
  refreshed,
  type Secrets,
  type SecretsProvider,
} from './keys.ts';
import { lowerCase, MAX_SIGNATURE_HEADER_LENGTH, type Scheme, type Signature } from './scheme.ts';
import { standardWebhooks } from './schemes/standard-webhooks.ts';
import { equalText, verifiesEd25519 } from './signature.ts';
import { assertBytes, assertId, isTimestamp } from './signer.ts';

export interface VerifierOptions<S = Secrets> {
  /** One secret, or all that are accepted while one is rotated. Up to 16. */
  readonly secrets: S;
  /** Default `standardWebhooks()`. */
  readonly scheme?: Scheme;
  /** How far the timestamp may be from now, in seconds, either way: 1 to 86,400. Default 300. */
  readonly toleranceSeconds?: number;
  /** The clock, in milliseconds since the epoch. Default `Date.now`. */
  readonly now?: () => number;
}

const known: OptionNames<VerifierOptions> = {
  secrets: true,
  scheme: true,
  toleranceSeconds: true,
  now: true,
};

/** A webhook that its sender signed. */
export interface Verified<B extends Uint8Array | string = Uint8Array | string> {
  /** The event's id, from where the scheme has it (`idFrom`); `undefined` when it has none. */
  readonly id: string | undefined;
  /** When the attempt was signed; `undefined` for schemes without a timestamp. */
  readonly timestampMs: number | undefined;
  /** What was passed in, untouched. Only an `idFrom` looks into it, after the signature; see `parsePayload`. */
  readonly body: B;
  /** Which of the secrets matched: 0 is the first. */
  readonly keyIndex: number;
}

export interface Verifier {
  readonly scheme: Scheme;
  /**
   * Checks form, time and signature, in this order.
   * @param body - the exact bytes received; a string stands for its UTF-8.
   * @throws WebhookError, and nothing else, when the webhook is not to be believed. What a scheme or an `idFrom` of your
   * own, or a provider of secrets, throws is passed on as it is.
   */
  verify<B extends Uint8Array | string>(body: B, headers: HeadersInput): Verified<B>;
}

export interface AsyncVerifier {
  readonly scheme: Scheme;
  verify<B extends Uint8Array | string>(body: B, headers: HeadersInput): Promise<Verified<B>>;
}

/**
 * Verifies webhooks.
 * @throws TypeError when a secret is empty, short, or not in the scheme's notation, or an option is out of range.
 */
export function createVerifier(options: VerifierOptions<SecretsProvider>): AsyncVerifier;
export function createVerifier(options: VerifierOptions): Verifier;
export function createVerifier(
  options: VerifierOptions<Secrets | SecretsProvider>,
): Verifier | AsyncVerifier {
  assertKnown(options, known);
  const { secrets, scheme = standardWebhooks(), toleranceSeconds = 300 } = options;
  // Now, although a provider's secrets are imported only when there is something to verify.
  assertIdSource(scheme);
  if (!(toleranceSeconds >= 1 && toleranceSeconds <= 86_400)) {
    throw new TypeError('toleranceSeconds must be a number from 1 to 86,400');
  }
  if (typeof secrets !== 'function') return fixedVerifier({ ...options, secrets });
  const current = refreshed(secrets, (list) => fixedVerifier({ ...options, secrets: list }));
  return { scheme, verify: async (body, headers) => (await current()).verify(body, headers) };
}

function fixedVerifier(options: VerifierOptions): Verifier {
  const { secrets, scheme = standardWebhooks(), toleranceSeconds = 300, now = Date.now } = options;
  const keys = importSecrets(secrets, scheme, 'verify');
  const { signature: signatureName, timestamp: timestampName, id: idName } = lowerCase(scheme);
  const readHeaders = headerReader([signatureName, timestampName, idName]);
  const idSource = scheme.idFrom;

  return {
    scheme,
    verify(body, headers) {
      assertBytes(body);
      const found = readHeaders(headers);
      const signatureHeader = found[0];
      const id = found[2];
      if (signatureHeader === undefined) throw missing(signatureName, scheme);
      const presented = parse(scheme, signatureHeader);

      const timestamp = timestampName === undefined ? presented.timestamp : found[1];
      const seconds = scheme.timestamped
        ? checkedSeconds(timestamp, scheme, toleranceSeconds, now())
        : undefined;
      if (id !== undefined) assertId(id);
      else if (idSource === 'header') throw missing(idName ?? 'id', scheme);

      const prefix = scheme.prefix(id ?? '', timestamp ?? '');
      const keyIndex = matchingKey(keys, presented.signatures, prefix, body, scheme.encoding);
      return {
        id: typeof idSource === 'function' ? idFromBody(idSource, body) : idSource && id,
        timestampMs: seconds === undefined ? undefined : seconds * 1000,
        body,
        keyIndex,
      };
    },
  };
}

/** Anything else would find no id, and a receiver would take every webhook for the same one. */
function assertIdSource({ idFrom, headers }: Scheme): void {
  if (idFrom === undefined || typeof idFrom === 'function') return;
  if (idFrom === 'header' && headers.id !== undefined) return;
  throw new TypeError(
    "idFrom must be 'header', where the scheme has a header for the id, or a function such as jsonField('id')",
  );
}

function parse(
  scheme: Scheme,
  header: string,
): { readonly signatures: readonly Signature[]; readonly timestamp?: string } {
  const parsed = header.length > MAX_SIGNATURE_HEADER_LENGTH ? undefined : scheme.parse(header);
  if (parsed) return parsed;
  throw new WebhookError(
    'ERR_WEBHOOKS_SIGNATURE_MALFORMED',
    `the header ${scheme.headers.signature} is not of the form that ${scheme.name} uses, or is too long`,
  );
}

function checkedSeconds(
  text: string | undefined,
  scheme: Scheme,
  toleranceSeconds: number,
  nowMs: number,
): number {
  if (text === undefined) throw missing(lowerCase(scheme).timestamp ?? 'timestamp', scheme);
  if (!isTimestamp(text)) {
    throw new WebhookError(
      'ERR_WEBHOOKS_TIMESTAMP_MALFORMED',
      'the timestamp is not a whole number of seconds since the epoch',
    );
  }
  // Whole seconds on both sides: the sender cut off its fraction, too.
  const seconds = Number(text);
  const aheadSeconds = seconds - Math.floor(nowMs / 1000);
  // Negated, so that a clock that yields NaN lets nothing through.
  if (!(aheadSeconds >= -toleranceSeconds)) {
    throw new WebhookError(
      'ERR_WEBHOOKS_TIMESTAMP_TOO_OLD',
      `the timestamp is ${-aheadSeconds} s old`,
    );
  }
  if (aheadSeconds > toleranceSeconds) {
    throw new WebhookError(
      'ERR_WEBHOOKS_TIMESTAMP_TOO_NEW',
      `the timestamp is ${aheadSeconds} s in the future`,
    );
  }
  return seconds;
}

/** The position of the first key under which one of the signatures holds. */
function matchingKey(
  keys: readonly ImportedKey[],
  signatures: readonly Signature[],
  prefix: string,
  body: Uint8Array | string,
  encoding: 'base64' | 'hex',
): number {
  let comparable = false;
  for (let index = 0; index < keys.length; index += 1) {
    const key = keys[index] as ImportedKey;
    let expected: string | undefined;
    for (const { algorithm, value } of signatures) {
      if (algorithm !== key.algorithm) continue;
      comparable = true;
      if (key.algorithm === 'ed25519') {
        if (verifiesEd25519(key.key, prefix, body, value, encoding)) return index;
      } else {
        expected ??= key.hmac(prefix, body, encoding);
        if (equalText(expected, value)) return index;
      }
    }
  }
  if (!comparable) {
    throw new WebhookError(
      'ERR_WEBHOOKS_SIGNATURE_UNSUPPORTED',
      'no signature is of a kind that a configured secret can check',
    );
  }
  throw new WebhookError(
    'ERR_WEBHOOKS_SIGNATURE_MISMATCH',
    'no signature matches: the secret is another one, or the body is not, byte for byte, the one that was sent ' +
      '(was it parsed and written again?)',
  );
}

function idFromBody(
  read: (body: Uint8Array | string) => string | undefined,
  body: Uint8Array | string,
): string {
  let id: string | undefined;
  try {
    id = read(body);
  } catch (cause) {
    throw new WebhookError('ERR_WEBHOOKS_ID_MALFORMED', 'the id could not be read from the body', {
      cause,
    });
  }
  if (typeof id !== 'string' || id.length === 0 || id.length > 256) {
    throw new WebhookError(
      'ERR_WEBHOOKS_ID_MALFORMED',
      'the body has no id of 1 to 256 characters where idFrom looks for it',
    );
  }
  return id;
}

function missing(header: string, { name }: Scheme): WebhookError {
  return new WebhookError(
    'ERR_WEBHOOKS_HEADER_MISSING',
    `the header ${header} is missing, which ${name} needs`,
  );
}
