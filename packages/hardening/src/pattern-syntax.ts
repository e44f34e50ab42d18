/** A regular expression, as far as it decides how long matching takes. */
export type Expression =
  | { readonly kind: 'empty' }
  | { readonly kind: 'start' }
  /** Bits 0 to 127 are ASCII; bit 128 stands for everything else. Never fewer characters than the class has. */
  | { readonly kind: 'characters'; readonly set: bigint }
  | { readonly kind: 'sequence'; readonly items: readonly Expression[] }
  | { readonly kind: 'choice'; readonly options: readonly Expression[] }
  | {
      readonly kind: 'repeat';
      readonly body: Expression;
      readonly min: number;
      readonly max: number;
    };

const OTHERS = 1n << 128n;
const ALL = (1n << 129n) - 1n;
const digits = between('0', '9');
const lower = between('a', 'z');
const upper = between('A', 'Z');
const words = digits | lower | upper | bit('_');
const spaces =
  ['\t', '\n', '\v', '\f', '\r', ' '].reduce((set, character) => set | bit(character), 0n) | OTHERS;
const lineEnds = bit('\n') | bit('\r');

const escapes: Readonly<Record<string, bigint>> = {
  d: digits,
  D: ALL & ~digits,
  w: words,
  W: ALL & ~words,
  s: spaces,
  S: (ALL & ~spaces) | OTHERS,
  t: bit('\t'),
  n: bit('\n'),
  v: bit('\v'),
  f: bit('\f'),
  r: bit('\r'),
  0: bit('\0'),
};

/** Reads a pattern. Undefined for what has no bound that can be told: lookaround, backreferences, modifiers, octal escapes, the flag `v`. */
export function parsePattern(pattern: RegExp): Expression | undefined {
  if (pattern.unicodeSets) return undefined;
  try {
    return new Reader(pattern).choice();
  } catch (error) {
    if (error instanceof Unsupported) return undefined;
    throw error;
  }
}

class Unsupported extends Error {}

/** A recursive descent over the source of a `RegExp`, which is known to be well-formed (ECMA-262 §22.2.1). */
class Reader {
  readonly #source: string;
  readonly #flags: RegExp;
  #at = 0;

  constructor(pattern: RegExp) {
    this.#source = pattern.source;
    this.#flags = pattern;
  }

  choice(): Expression {
    const options = [this.#sequence()];
    while (this.#take('|')) options.push(this.#sequence());
    return options.length === 1 && options[0] ? options[0] : { kind: 'choice', options };
  }

  #sequence(): Expression {
    const items: Expression[] = [];
    while (this.#at < this.#source.length && !'|)'.includes(this.#source[this.#at] ?? '')) {
      items.push(this.#quantified(this.#atom()));
    }
    return { kind: 'sequence', items };
  }

  #quantified(body: Expression): Expression {
    const [text, simple, min, comma, max] =
      this.#match(/(?:([*+?])|\{(\d+)(?:(,)(\d*))?\})\??/y) ?? [];
    if (text === undefined) return body;
    if (simple !== undefined) {
      return {
        kind: 'repeat',
        body,
        min: simple === '+' ? 1 : 0,
        max: simple === '?' ? 1 : Number.POSITIVE_INFINITY,
      };
    }
    const least = Number(min);
    const most = comma === undefined ? least : max ? Number(max) : Number.POSITIVE_INFINITY;
    return { kind: 'repeat', body, min: least, max: most };
  }

  #atom(): Expression {
    if (this.#take('^')) return { kind: this.#flags.multiline ? 'empty' : 'start' };
    if (this.#take('$')) return { kind: 'empty' };
    if (this.#match(/\\[bB]/y)) return { kind: 'empty' };
    if (this.#match(/\((?:\?:|\?<(?![=!])[^>]*>|(?!\?))/y)) {
      const inner = this.choice();
      this.#take(')');
      return inner;
    }
    if (this.#match(/\(\?|\\[1-9k]/y)) throw new Unsupported();
    if (this.#take('.')) return characters(this.#flags.dotAll ? ALL : ALL & ~lineEnds);
    if (this.#take('[')) return characters(this.#class());
    return characters(this.#folded(this.#escapeOrCharacter()));
  }

  #class(): bigint {
    const isNegated = this.#take('^');
    let set = 0n;
    let isInexact = false;
    while (!this.#take(']')) {
      isInexact ||=
        this.#source.startsWith('\\p', this.#at) || this.#source.startsWith('\\P', this.#at);
      const from = this.#escapeOrCharacter('class');
      const range = this.#match(/-(?!\])/y);
      set |= range ? span(from, this.#escapeOrCharacter('class')) : from;
    }
    if (!isNegated) return this.#folded(set);
    // Leaving out everything that \p{…} might contain would leave out too much.
    return isInexact ? ALL : (ALL & ~(this.#flags.ignoreCase ? bothCases(set) : set)) | OTHERS;
  }

  #escapeOrCharacter(place?: 'class'): bigint {
    const property = this.#flags.unicode && this.#match(/\\[pP]\{[^}]*\}/y);
    if (property) return ALL;
    const [, hex, long] = this.#match(/\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4}))/y) ?? [];
    const [, braced] = (this.#flags.unicode && this.#match(/\\u\{([0-9a-fA-F]+)\}/y)) || [];
    const code = hex ?? long ?? braced;
    if (code !== undefined) return bitOf(Number.parseInt(code, 16));
    const [, control] = this.#match(/\\c([a-zA-Z])/y) ?? [];
    if (control !== undefined) return bitOf(control.charCodeAt(0) % 32);
    // Octal numbers, and a backslash that is one (ECMA-262 §B.1.2).
    if (this.#match(/\\(?:[1-9]|0\d|c)/y)) throw new Unsupported();
    if (place === 'class' && this.#match(/\\b/y)) return bit('\b');
    const [, escaped] = this.#match(/\\(.)/sy) ?? [];
    if (escaped !== undefined) return escapes[escaped] ?? bit(escaped);
    const character = this.#source[this.#at] ?? '';
    this.#at += 1;
    return bit(character);
  }

  #folded(set: bigint): bigint {
    if (!this.#flags.ignoreCase) return set;
    const folded = bothCases(set);
    // The Kelvin sign and the long s are other cases of k and s.
    const strange = bit('k') | bit('K') | bit('s') | bit('S');
    if ((folded & strange) !== 0n) return folded | OTHERS;
    return (folded & OTHERS) === 0n ? folded : folded | strange;
  }

  #take(text: string): boolean {
    if (!this.#source.startsWith(text, this.#at)) return false;
    this.#at += text.length;
    return true;
  }

  #match(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#source);
    if (found === null) return undefined;
    this.#at += found[0].length;
    return found;
  }
}

function characters(set: bigint): Expression {
  return { kind: 'characters', set };
}

function bitOf(code: number): bigint {
  return code < 128 ? 1n << BigInt(code) : OTHERS;
}

function bit(character: string): bigint {
  return bitOf(character.charCodeAt(0));
}

function bothCases(set: bigint): bigint {
  return set | ((set & lower) >> 32n) | ((set & upper) << 32n);
}

function between(from: string, to: string): bigint {
  return span(bit(from), bit(to));
}

/** All bits from the one of `from` to the one of `to`. Where either is a class (`[\w-z]`), the hyphen stands for itself. */
function span(from: bigint, to: bigint): bigint {
  const isSingle = (set: bigint): boolean => (set & (set - 1n)) === 0n;
  if (!isSingle(from) || !isSingle(to)) return from | to | bit('-');
  return ((to << 1n) - 1n) & ~(from - 1n);
}
