import { claims, encode, header, signature, token } from '../issuer.ts';
import { type Attack, attacks, trusted } from './attack.ts';

const good = token(trusted);
const [head = '', body = '', tag = ''] = good.split('.');

/** Signed by the trusted key over exactly the given bytes, sensible or not. */
function payload(bytes: string | Buffer): string {
  return token(trusted, bytes);
}

function heading(bytes: string | Buffer): string {
  return token(trusted, claims(), bytes);
}

const json = JSON.stringify(claims());
const headJson = JSON.stringify(header());
const extended = (members: string): string => `${json.slice(0, -1)},${members}}`;
const deep = (levels: number): string => '['.repeat(levels) + ']'.repeat(levels);

/** The same bytes in a text that ends in other unused bits. */
function otherTrailingBits(part: string): string {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
  const last = alphabet.indexOf(part.slice(-1));
  return part.slice(0, -1) + alphabet[last + 1];
}

/** A payload whose base64url ends in unused bits. */
const loose = `${head}.${encode(JSON.stringify(claims({ pad: pad(json.length) })))}`;
function pad(length: number): string {
  return 'x'.repeat((3 - ((length + 9) % 3) + 1) % 3);
}

export const shapes: readonly Attack[] = attacks([
  ['no text at all', '', 'ERR_JWT_MALFORMED'],
  ['undefined', undefined, 'ERR_JWT_MALFORMED'],
  ['null', null, 'ERR_JWT_MALFORMED'],
  ['a number', 42, 'ERR_JWT_MALFORMED'],
  ['bytes instead of a text', Buffer.from(good), 'ERR_JWT_MALFORMED'],
  ['a list that prints like a token', [good], 'ERR_JWT_MALFORMED'],
  ['an object that prints like a token', { toString: () => good }, 'ERR_JWT_MALFORMED'],
  ['a String object', new String(good), 'ERR_JWT_MALFORMED'],
  ['one part', head, 'ERR_JWT_MALFORMED'],
  ['two parts', `${head}.${body}`, 'ERR_JWT_MALFORMED'],
  ['four parts', `${good}.${tag}`, 'ERR_JWT_MALFORMED'],
  ['six parts', `${good}.a.b.c`, 'ERR_JWT_MALFORMED'],
  ['two dots and nothing else', '..', 'ERR_JWT_JSON'],
  ['an empty header', `.${body}.${tag}`, 'ERR_JWT_JSON'],
  ['an empty payload', `${head}..${tag}`, 'ERR_JWT_JSON'],
  ['a detached payload (RFC 7515 appendix F)', `${head}..${tag}`, 'ERR_JWT_JSON'],
  ['an encrypted token', `${head}.a.b.c.d`, 'ERR_JWT_ENCRYPTED'],
  [
    'a token in the JSON serialization',
    JSON.stringify({ protected: head, payload: body, signature: tag }),
    'ERR_JWT_MALFORMED',
  ],
  ['the scheme in front', `Bearer ${good}`, 'ERR_JWT_ENCODING'],
  ['a megabyte of letters', 'a'.repeat(1 << 20), 'ERR_JWT_TOO_LARGE'],
  ['a megabyte of dots', '.'.repeat(1 << 20), 'ERR_JWT_TOO_LARGE'],
  [
    'a megabyte of payload, signed',
    payload(extended(`"x":"${'a'.repeat(1 << 20)}"`)),
    'ERR_JWT_TOO_LARGE',
  ],
  ['8193 characters', 'a'.repeat(8193), 'ERR_JWT_TOO_LARGE'],
  ['8192 dots', '.'.repeat(8192), 'ERR_JWT_MALFORMED'],
]);

export const encodings: readonly Attack[] = attacks([
  ['a space in front', ` ${good}`, 'ERR_JWT_ENCODING'],
  ['a line break behind', `${good}\n`, 'ERR_JWT_ENCODING'],
  ['a NUL behind', `${good}\0`, 'ERR_JWT_ENCODING'],
  [
    'a space within the header',
    `${head.slice(0, 4)} ${head.slice(4)}.${body}.${tag}`,
    'ERR_JWT_ENCODING',
  ],
  [
    'a line break within the payload',
    `${head}.${body.slice(0, 4)}\n${body.slice(4)}.${tag}`,
    'ERR_JWT_ENCODING',
  ],
  [
    'a tab within the signature',
    `${head}.${body}.${tag.slice(0, 4)}\t${tag.slice(4)}`,
    'ERR_JWT_ENCODING',
  ],
  ['padding behind the header', `${head}=.${body}.${tag}`, 'ERR_JWT_ENCODING'],
  ['padding behind the payload', `${head}.${body}=.${tag}`, 'ERR_JWT_ENCODING'],
  ['padding behind the signature', `${good}==`, 'ERR_JWT_ENCODING'],
  [
    'standard base64 in the signature',
    `${head}.${body}.${Buffer.from(tag, 'base64url').toString('base64').replace(/=+$/, '')}+/`,
    'ERR_JWT_ENCODING',
  ],
  ['a percent-encoded dot', good.replace('.', '%2e'), 'ERR_JWT_MALFORMED'],
  ['a full-width dot', good.replace('.', '．'), 'ERR_JWT_MALFORMED'],
  ['a letter beyond ASCII', `${good.slice(0, -1)}é`, 'ERR_JWT_ENCODING'],
  [
    'a letter whose low byte is a good one',
    `${good.slice(0, -1)}${String.fromCharCode(0x100 + good.charCodeAt(good.length - 1))}`,
    'ERR_JWT_ENCODING',
  ],
  ['an emoji', `${good}🔑`, 'ERR_JWT_ENCODING'],
  ['half an emoji', `${good}\ud83d`, 'ERR_JWT_ENCODING'],
  [
    'other unused bits at the end of the signature',
    `${head}.${body}.${otherTrailingBits(tag)}`,
    'ERR_JWT_ENCODING',
  ],
  [
    'other unused bits at the end of the payload, signed',
    resigned(otherTrailingBits(loose)),
    'ERR_JWT_ENCODING',
  ],
  ['a last group of one character', `${good}AAA`, 'ERR_JWT_ENCODING'],
]);

function resigned(input: string): string {
  return `${input}.${signature(trusted, input)}`;
}

export const texts: readonly Attack[] = attacks([
  ['a header that is no JSON', heading('RS256'), 'ERR_JWT_JSON'],
  ['a header that is a list', heading('["RS256"]'), 'ERR_JWT_JSON'],
  ['a header that is null', heading('null'), 'ERR_JWT_JSON'],
  ['a header that is a text', heading('"RS256"'), 'ERR_JWT_JSON'],
  ['a payload that is a list', payload('[]'), 'ERR_JWT_JSON'],
  ['a payload that is null', payload('null'), 'ERR_JWT_JSON'],
  ['a payload that is a number', payload('1'), 'ERR_JWT_JSON'],
  ['a payload that is true', payload('true'), 'ERR_JWT_JSON'],
  ['a payload that is an empty object', payload('{}'), 'ERR_JWT_CLAIM_MISSING'],
  ['a payload that ends early', payload(json.slice(0, -1)), 'ERR_JWT_JSON'],
  [
    'a payload within an unclosed text',
    payload('{"iss":"https://auth.example.com'),
    'ERR_JWT_JSON',
  ],
  ['a payload with something behind it', payload(`${json}{}`), 'ERR_JWT_JSON'],
  ['a payload with a comma too many', payload(extended('')), 'ERR_JWT_JSON'],
  ['a payload with a comment', payload(`${json}/* */`), 'ERR_JWT_JSON'],
  ['a payload in single quotes', payload(json.replaceAll('"', "'")), 'ERR_JWT_JSON'],
  ['NaN for exp', payload(json.replace(/"exp":\d+/, '"exp":NaN')), 'ERR_JWT_JSON'],
  ['Infinity for exp', payload(json.replace(/"exp":\d+/, '"exp":Infinity')), 'ERR_JWT_JSON'],
  ['a hexadecimal exp', payload(json.replace(/"exp":\d+/, '"exp":0x7fffffff')), 'ERR_JWT_JSON'],
  ['a byte order mark before the payload', payload(`\ufeff${json}`), 'ERR_JWT_JSON'],
  ['a byte order mark before the header', heading(`\ufeff${headJson}`), 'ERR_JWT_JSON'],
  ['a payload in UTF-16', payload(Buffer.from(json, 'utf16le')), 'ERR_JWT_JSON'],
  [
    'bytes that are no UTF-8',
    payload(
      Buffer.concat([
        Buffer.from(extended('"x":"').slice(0, -1)),
        Buffer.from([0xc3, 0x28]),
        Buffer.from('"}'),
      ]),
    ),
    'ERR_JWT_JSON',
  ],
  [
    'an overlong UTF-8 quote',
    payload(
      Buffer.concat([
        Buffer.from(extended('"x":"').slice(0, -1)),
        Buffer.from([0xc0, 0xa2]),
        Buffer.from('"}'),
      ]),
    ),
    'ERR_JWT_JSON',
  ],
  [
    'alg twice, the second one good',
    heading(headJson.replace('{', '{"alg":"none",')),
    'ERR_JWT_DUPLICATE_MEMBER',
  ],
  [
    'alg twice, the second one bad',
    heading(headJson.replace('}', ',"alg":"none"}')),
    'ERR_JWT_DUPLICATE_MEMBER',
  ],
  ['kid twice', heading(headJson.replace('}', ',"kid":"key-2"}')), 'ERR_JWT_DUPLICATE_MEMBER'],
  ['aud twice', payload(extended('"aud":"https://other.example.com"')), 'ERR_JWT_DUPLICATE_MEMBER'],
  ['exp twice', payload(extended('"exp":9999999999')), 'ERR_JWT_DUPLICATE_MEMBER'],
  ['sub twice, the same', payload(extended('"sub":"user-1"')), 'ERR_JWT_DUPLICATE_MEMBER'],
  ['sub twice, once escaped', payload(extended('"\\u0073ub":"admin"')), 'ERR_JWT_DUPLICATE_MEMBER'],
  [
    'a member twice, far inside',
    payload(extended('"x":[{"y":{"role":"user","role":"admin"}}]')),
    'ERR_JWT_DUPLICATE_MEMBER',
  ],
  [
    'a member twice, colons in texts around it',
    payload(extended('"a:":":","b":"\\":","b":1')),
    'ERR_JWT_DUPLICATE_MEMBER',
  ],
  ['__proto__ as a claim', payload(extended('"__proto__":{"admin":true}')), 'ERR_JWT_JSON'],
  ['__proto__ inside a claim', payload(extended('"x":{"__proto__":null}')), 'ERR_JWT_JSON'],
  ['__proto__ escaped', payload(extended('"\\u005f_proto__":{"admin":true}')), 'ERR_JWT_JSON'],
  ['__proto__ in the header', heading(headJson.replace('}', ',"__proto__":{}}')), 'ERR_JWT_JSON'],
  ['lists 2,000 deep', payload(extended(`"x":${deep(2000)}`)), 'ERR_JWT_JSON'],
  ['lists 10,000 deep', payload(extended(`"x":${deep(10_000)}`)), 'ERR_JWT_TOO_LARGE'],
  [
    'objects 800 deep',
    payload(extended(`"x":${'{"a":'.repeat(800)}1${'}'.repeat(800)}`)),
    'ERR_JWT_JSON',
  ],
  [
    'lists 2,000 deep that never close',
    payload(extended(`"x":${'['.repeat(2000)}`)),
    'ERR_JWT_JSON',
  ],
  [
    'lists 2,000 deep in the header',
    heading(headJson.replace('}', `,"x":${deep(2000)}}`)),
    'ERR_JWT_JSON',
  ],
  ['lists 17 deep', payload(extended(`"x":${deep(16)}`)), 'ERR_JWT_JSON'],
]);
