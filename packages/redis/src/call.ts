export type ScriptArgument = string | number | Uint8Array;

/** Redis closes the connection, with all that is under way on it, for not much more than this. */
const maxArguments = 1_000_000;
const maxLength = 128 * 1024 * 1024;

/** The keys and arguments of a call of a script, in arrays of its own: those of the caller may change before it is sent. */
export interface Input {
  readonly keys: readonly string[];
  readonly args: readonly (string | number | Buffer)[];
  /** How many characters and bytes they are, roughly. */
  readonly length: number;
}

export interface Call extends Input {
  readonly resolve: (reply: never) => void;
  readonly reject: (error: unknown) => void;
}

/** @throws TypeError when they are none, so that no other call that travels along has to suffer for it. */
export function inputOf(keys: readonly string[], args: readonly ScriptArgument[]): Input {
  if (args.length > maxArguments)
    throw new TypeError(`args: expected ${maxArguments} at most, got ${args.length}`);
  const own: Input['args'][number][] = [];
  let length = 0;
  for (const key of keys) {
    if (typeof key !== 'string') throw new TypeError('keys: expected strings');
    length += key.length;
  }
  for (const arg of args) {
    const sent = argument(arg);
    own.push(sent);
    if (typeof sent !== 'number') length += sent.length;
  }
  if (length > maxLength)
    throw new TypeError(`args: expected ${maxLength} characters and bytes at most, got ${length}`);
  return { keys: [...keys], args: own, length };
}

function argument(arg: ScriptArgument): string | number | Buffer {
  if (typeof arg === 'string' || (typeof arg === 'number' && Number.isFinite(arg))) return arg;
  if (ArrayBuffer.isView(arg)) return Buffer.from(arg.buffer, arg.byteOffset, arg.byteLength);
  throw new TypeError('args: expected strings, finite numbers or bytes');
}
