import type { JsonObject } from './json.ts';

const NAMES =
  /^(pass(word|wd|phrase)?|pwd|pin|secret|client_?secret|api_?key|private_?key|secret_?key|ssn|social_?security(_?(number|no))?|tax_?id|national_?id|passport(_?(number|no))?|drivers?_?licen[cs]e|credit_?card|card_?(number|no)|cc_?(number|num)|pan|cvv2?|cvc|iban|bank_?account|account_?number|mother'?s?_?maiden_?name|mfa_?secret|otp|totp_?secret|security_?answer)$/i;

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
    } else if (member !== null && (NAMES.test(camelToSnake(name)) || looksSensitive(member))) {
      // A name out of the token is quoted, and cut: it goes to reports and terminals.
      found.push(JSON.stringify(at.slice(0, 100)));
    }
  }
}

function camelToSnake(name: string): string {
  return name.replace(/-/g, '_').replace(/([a-z0-9])([A-Z])/g, '$1_$2');
}

function looksSensitive(value: unknown): boolean {
  if (typeof value !== 'string' || value.length > 30) return false;
  return /^\d{3}-\d{2}-\d{4}$/.test(value) || isCardNumber(value);
}

/** 13 to 19 digits that end in their Luhn check digit and begin like a card of the large networks. */
function isCardNumber(text: string): boolean {
  if (
    !/^[3-6]\d{3}([ -]?\d{4}){2}([ -]?\d{1,7})$/.test(text) &&
    !/^3\d{3}[ -]?\d{6}[ -]?\d{5}$/.test(text)
  )
    return false;
  const digits = text.replace(/\D/g, '').split('').reverse().map(Number);
  const sum = digits.reduce((total, digit, index) => {
    const weighed = index % 2 === 1 ? digit * 2 : digit;
    return total + (weighed > 9 ? weighed - 9 : weighed);
  }, 0);
  return digits.length >= 13 && digits.length <= 19 && sum % 10 === 0;
}
