import { promisify } from 'node:util';
import { brotliDecompress, gunzip, inflate, zstdDecompress } from 'node:zlib';
import type { ResponseHeaders } from './headers.ts';
import { single } from './retry-policy.ts';

/** How a response body is read. */
export type ReadAs = 'auto' | 'json' | 'text' | 'bytes';

type Decompress = (data: Uint8Array, options: { maxOutputLength: number }) => Promise<Buffer>;

const DECODERS: Readonly<Record<string, Decompress>> = {
  gzip: promisify(gunzip) as Decompress,
  'x-gzip': promisify(gunzip) as Decompress,
  deflate: promisify(inflate) as Decompress,
  br: promisify(brotliDecompress) as Decompress,
  zstd: promisify(zstdDecompress) as Decompress,
};

/** What {@link decompress} can undo and is offered to servers. */
export const ACCEPT_ENCODING = 'gzip, br';

/** More than two layers serve no one but somebody who wants work done. */
const MAX_CODINGS = 2;

/** What a response would have become is larger than it may be. */
export class TooLargeError extends Error {}

/**
 * Undoes the content codings (RFC 9110 §8.4) without ever producing more than `maxBytes`.
 * @throws TooLargeError beyond `maxBytes`; Error when it is coded otherwise or damaged.
 */
export async function decompress(
  body: Buffer,
  headers: ResponseHeaders,
  maxBytes: number,
): Promise<Buffer> {
  const field = headers['content-encoding'];
  const codings = (Array.isArray(field) ? field.join(',') : (field ?? ''))
    .split(',')
    .map((coding) => coding.trim().toLowerCase())
    .filter((coding) => coding !== '' && coding !== 'identity');
  if (codings.length > MAX_CODINGS) throw new Error(`more than ${MAX_CODINGS} content codings`);
  let decoded = body;
  if (body.length === 0) return body;
  for (const coding of codings.reverse()) {
    const decode = Object.hasOwn(DECODERS, coding) ? DECODERS[coding] : undefined;
    if (!decode) throw new Error('a content coding that was not asked for');
    try {
      decoded = await decode(decoded, { maxOutputLength: maxBytes });
    } catch (error) {
      if ((error as { code?: unknown }).code !== 'ERR_BUFFER_TOO_LARGE') throw error;
      throw new TooLargeError(`the decompressed body is larger than ${maxBytes} bytes`);
    }
  }
  return decoded;
}

const JSON_TYPE = /^application\/(?:[\w!#$&^.+-]+\+)?json[ \t]*(?:;|$)/i;
const TEXT_TYPE = /^text\/|^application\/(?:xml|x-www-form-urlencoded)\b|\+xml[ \t]*(?:;|$)/i;

/**
 * The body as a value: JSON parsed, text as a string (UTF-8), everything else as bytes; `undefined` when there is none.
 * @throws SyntaxError when it is called JSON and is not.
 */
export function parseBody(body: Buffer, headers: ResponseHeaders, as: ReadAs): unknown {
  if (as === 'bytes') return body;
  if (as === 'text') return body.toString('utf8');
  if (body.length === 0) return undefined;
  const type = single(headers, 'content-type') ?? '';
  if (as === 'json' || JSON_TYPE.test(type)) return JSON.parse(body.toString('utf8')) as unknown;
  return TEXT_TYPE.test(type) ? body.toString('utf8') : body;
}

/** Whether it is a problem document (RFC 9457 §3). */
export function isProblem(headers: ResponseHeaders): boolean {
  return /^application\/problem\+json\s*(?:;|$)/i.test(single(headers, 'content-type') ?? '');
}
