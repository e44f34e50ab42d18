import type { Transform } from 'node:stream';
import { promisify } from 'node:util';
import {
  brotliDecompress,
  constants,
  createBrotliDecompress,
  createGunzip,
  createInflate,
  createZstdDecompress,
  gunzip,
  inflate,
  zstdDecompress,
} from 'node:zlib';
import type { ResponseHeaders } from './headers.ts';
import { single } from './retry-policy.ts';

/** How a response body is read. */
export type ReadAs = 'auto' | 'json' | 'text' | 'bytes';

type Decompress = (data: Uint8Array, options: { maxOutputLength: number }) => Promise<Buffer>;

interface Decoder {
  readonly whole: Decompress;
  /** For what may end anywhere. */
  readonly stream: () => Transform;
}

const GZIP: Decoder = {
  whole: promisify(gunzip) as Decompress,
  stream: () => createGunzip({ finishFlush: constants.Z_SYNC_FLUSH }),
};

const DECODERS: Readonly<Record<string, Decoder>> = {
  gzip: GZIP,
  'x-gzip': GZIP,
  deflate: {
    whole: promisify(inflate) as Decompress,
    stream: () => createInflate({ finishFlush: constants.Z_SYNC_FLUSH }),
  },
  br: {
    whole: promisify(brotliDecompress) as Decompress,
    stream: () => createBrotliDecompress({ finishFlush: constants.BROTLI_OPERATION_FLUSH }),
  },
  zstd: {
    whole: promisify(zstdDecompress) as Decompress,
    stream: () => createZstdDecompress({ finishFlush: constants.ZSTD_e_flush }),
  },
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
  const decoders = decodersFor(headers);
  if (body.length === 0) return body;
  let decoded = body;
  for (const { whole } of decoders) {
    try {
      decoded = await whole(decoded, { maxOutputLength: maxBytes });
    } catch (error) {
      if ((error as { code?: unknown }).code !== 'ERR_BUFFER_TOO_LARGE') throw error;
      throw new TooLargeError(`the decompressed body is larger than ${maxBytes} bytes`);
    }
  }
  return decoded;
}

/**
 * The first `maxBytes` bytes of what a body that may be cut off would have become, or as many as there are.
 * @throws Error when it is coded in a way that was not asked for.
 */
export async function decompressBeginning(
  body: Buffer,
  headers: ResponseHeaders,
  maxBytes: number,
): Promise<Buffer> {
  let decoded = body;
  for (const { stream } of decodersFor(headers)) {
    decoded = await beginningOf(stream(), decoded, maxBytes);
  }
  return decoded.subarray(0, maxBytes);
}

function beginningOf(decoder: Transform, body: Buffer, maxBytes: number): Promise<Buffer> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    decoder.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      bytes += chunk.length;
      if (bytes >= maxBytes) decoder.destroy();
    });
    // Damaged: what came before the damage is kept.
    decoder.on('error', () => {});
    decoder.on('close', () => resolve(Buffer.concat(chunks).subarray(0, maxBytes)));
    decoder.end(body);
  });
}

/** The last coding was applied last, and is undone first. */
function decodersFor(headers: ResponseHeaders): readonly Decoder[] {
  const field = headers['content-encoding'];
  const codings = (Array.isArray(field) ? field.join(',') : (field ?? ''))
    .split(',')
    .map((coding) => coding.trim().toLowerCase())
    .filter((coding) => coding !== '' && coding !== 'identity');
  if (codings.length > MAX_CODINGS) throw new Error(`more than ${MAX_CODINGS} content codings`);
  return codings.reverse().map((coding) => {
    const decoder = Object.hasOwn(DECODERS, coding) ? DECODERS[coding] : undefined;
    if (!decoder) throw new Error('a content coding that was not asked for');
    return decoder;
  });
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
  if (as === 'json' || JSON_TYPE.test(type)) return parseJson(body.toString('utf8'));
  return TEXT_TYPE.test(type) ? body.toString('utf8') : body;
}

/** Some servers begin with a byte order mark, which RFC 8259 §8.1 lets us ignore. */
function parseJson(text: string): unknown {
  return JSON.parse(text.startsWith('\uFEFF') ? text.slice(1) : text);
}

/** Whether it is a problem document (RFC 9457 §3). */
export function isProblem(headers: ResponseHeaders): boolean {
  return /^application\/problem\+json\s*(?:;|$)/i.test(single(headers, 'content-type') ?? '');
}
