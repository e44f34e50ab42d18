import type * as z from 'zod';
import type { FieldError } from './errors.ts';

const MAX_ERRORS = 10;
const MAX_SEGMENT = 64;
const MAX_POINTER = 200;
const ELLIPSIS = '%E2%80%A6';
/** Codes that checks of your own may give with `params: { code }`. */
const CODE = /^[a-z][a-z0-9_]{0,39}$/;

/**
 * What zod found, as data for whoever sent it: which field, which rule. At most ten, of bounded size. Neither values nor messages of your own are in
 * it, because a message may quote the value; names that the sender chose are, shortened.
 */
export function fieldErrors(issues: readonly z.core.$ZodIssue[]): readonly FieldError[] {
  const errors: FieldError[] = [];
  for (const issue of issues) {
    const places = issue.code === 'unrecognized_keys' ? issue.keys.map((key) => [key]) : [[]];
    for (const place of places) {
      if (errors.length === MAX_ERRORS) return errors;
      const code = codeOf(issue);
      errors.push({
        pointer: pointer([...issue.path, ...place]),
        code,
        detail: detailOf(issue, code),
      });
    }
  }
  return errors;
}

/** A JSON Pointer as a URI fragment (RFC 6901 §6), shortened where the sender made it long. */
export function pointer(path: readonly PropertyKey[]): string {
  let text = '#';
  for (const segment of path) {
    const next = `${text}/${shortened(String(segment))}`;
    if (next.length > MAX_POINTER - ELLIPSIS.length - 1) return `${text}/${ELLIPSIS}`;
    text = next;
  }
  return text;
}

function shortened(segment: string): string {
  let text = '';
  for (const character of segment.slice(0, MAX_SEGMENT + 1).toWellFormed()) {
    const escaped = encodeURIComponent(character.replace('~', '~0').replace('/', '~1'));
    if (text.length + escaped.length > MAX_SEGMENT - ELLIPSIS.length) return text + ELLIPSIS;
    text += escaped;
  }
  return text;
}

function codeOf(issue: z.core.$ZodIssue): string {
  if (issue.code !== 'custom') return issue.code;
  const code: unknown = issue.params?.['code'];
  return typeof code === 'string' && CODE.test(code) ? code : 'custom';
}

const details = new Map(
  Object.entries({
    invalid_format: 'does not have the form it must have',
    invalid_value: 'is not one of the values it may have',
    invalid_union: 'fits none of the forms it may have',
    invalid_key: 'has a name it may not have',
    unrecognized_keys: 'is not known',
    privileged: 'cannot be set here',
    duplicate: 'must be given once',
    too_many_bytes: 'takes too many bytes',
    type_mismatch: 'is not of the type it is declared as',
    refused_by_scan: 'was not accepted by the scan',
    check_failed: 'could not be checked',
    invalid_characters: 'has characters it may not have',
  }),
);

function detailOf(issue: z.core.$ZodIssue, code: string): string {
  switch (issue.code) {
    case 'invalid_type':
      return `must be of type ${issue.expected}`;
    case 'too_big':
      return `must ${issue.inclusive === false ? 'be less than' : 'be at most'} ${issue.maximum}${unitOf(issue.origin)}`;
    case 'too_small':
      return `must ${issue.inclusive === false ? 'be more than' : 'be at least'} ${issue.minimum}${unitOf(issue.origin)}`;
    default:
      return details.get(code) ?? 'is not valid';
  }
}

function unitOf(origin: string): string {
  switch (origin) {
    case 'string':
      return ' characters long';
    case 'array':
      return ' items long';
    default:
      return '';
  }
}
