import type { JsonObject } from './json.ts';

/** Names that say enough only when they stand alone: there are boarding passes, and brands of cards. */
const NAMES =
  /^(pass|pin|card|tax_?id|national_?id|pan|otp|account_?(number|no|num)|mother_?s?_?maiden_?name)$/i;

/** Names that say it with words before them, and some after: `user_password`, `passwordHash`, `ssn_last4`. */
const ROOTS =
  /(^|_)(user)?(pass_?word|passwd|pass_?phrase|pwd|secret|api_?key|private_?key|secret_?key|ssn|social_?security|passport|drivers?_?licen[cs]e|(credit|debit|payment|bank)_?card|card_?(number|no|num)|cc_?(number|no|num)|cvv2?|cvc2?|iban|bank_?account|security_?answer)(_?(number|no|num|hash|hashed|digest|salt|value|plain|plaintext|text|encrypted|last_?(4|four)))?$/i;

const MAX_FOUND = 20;

/** Where a payload holds what nobody should read: by the names of its members, and by values that look like a card or an SSN. */
export function sensitivePaths(payload: JsonObject): readonly string[] {
  const found: string[] = [];
  walk(payload, '', 0, found);
  return found;
}

function walk(value: object, path: string, depth: number, found: string[]): void {
  if (depth > 16) return;
  for (const [name, member] of Object.entries(value)) {
    if (found.length >= MAX_FOUND) return;
    const at = Array.isArray(value) ? `${path}[]` : path === '' ? name : `${path}.${name}`;
    if (typeof member === 'object' && member !== null) {
      walk(member, at, depth + 1, found);
    } else if (isTelling(member) && (isSensitiveName(name) || looksSensitive(member))) {
      // A name out of the token is quoted, and cut: it goes to reports and terminals.
      found.push(JSON.stringify(at.slice(0, 100)).replace(CONTROL, escaped));
    }
  }
}

/** Control characters that JSON leaves as they are, and those that turn the direction of a text. */
const CONTROL = /\p{C}/gu;

function escaped(character: string): string {
  return `\\u${(character.codePointAt(0) ?? 0).toString(16).padStart(4, '0')}`;
}

/** A yes or no gives nothing away: `must_change_password`. */
function isTelling(member: unknown): boolean {
  return member !== null && typeof member !== 'boolean';
}

function isSensitiveName(name: string): boolean {
  const words = wordsOf(name);
  return NAMES.test(words) || ROOTS.test(words);
}

/** `userSSN`, `SSNLast4`, `user-ssn` and `mother's` with underscores between the words. */
function wordsOf(name: string): string {
  return name
    .replace(/[-' .]/g, '_')
    .replace(/(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])/g, '_');
}

function looksSensitive(value: unknown): boolean {
  const text = Number.isSafeInteger(value) ? String(value) : value;
  if (typeof text !== 'string' || text.length > 30) return false;
  return /^\d{3}-\d{2}-\d{4}$/.test(text) || isCardNumber(text);
}

const CARD_NUMBERS = [
  /^[3-6]\d{3}([ -]?\d{4}){2}[ -]?\d{1,7}$/,
  /^3\d{3}[ -]?\d{6}[ -]?\d{5}$/,
  // Mastercard's second range, 2221 to 2720.
  /^(222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)([ -]?\d{4}){3}$/,
];

/** 13 to 19 digits that end in their Luhn check digit and begin like a card of the large networks. */
function isCardNumber(text: string): boolean {
  if (!CARD_NUMBERS.some((pattern) => pattern.test(text))) return false;
  const digits = text.replace(/\D/g, '').split('').reverse().map(Number);
  const sum = digits.reduce((total, digit, index) => {
    const weighed = index % 2 === 1 ? digit * 2 : digit;
    return total + (weighed > 9 ? weighed - 9 : weighed);
  }, 0);
  return digits.length >= 13 && digits.length <= 19 && sum % 10 === 0;
}
