import * as z from 'zod';
import { assertKnown } from './options.ts';

/** What can be told apart by its first bytes. */
export type UploadType = 'image/jpeg' | 'image/png' | 'application/pdf';

/** A file as it was sent. */
export interface UploadedFile {
  /** The type that the sender declares, without parameters. */
  readonly type: UploadType;
  readonly bytes: Uint8Array;
}

/** What `upload` takes. */
export interface UploadOptions {
  /** Default 10,485,760 (10 MiB). */
  readonly maxBytes?: number;
  /** Default JPEG, PNG and PDF. */
  readonly types?: readonly UploadType[];
  /** Your scanner: resolves to whether the file may be kept. When it fails, so does the upload, with its error. Then only `parseAsync` works. */
  readonly scan?: (file: UploadedFile) => Promise<boolean>;
}

/** A file of a declared type. */
export type Upload = z.ZodObject<
  { type: z.ZodEnum<{ [Type in UploadType]: Type }>; bytes: z.ZodCustom<Uint8Array, Uint8Array> },
  z.core.$strict
>;

const signatures: Readonly<Record<UploadType, readonly number[]>> = {
  'image/jpeg': [0xff, 0xd8, 0xff],
  'image/png': [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a],
  'application/pdf': [0x25, 0x50, 0x44, 0x46, 0x2d],
};

const known: readonly string[] = [
  'maxBytes',
  'types',
  'scan',
] satisfies readonly (keyof UploadOptions)[];

/**
 * A file of at most 10 MiB that begins as its declared type does: JPEG, PNG or PDF. The beginning is not the whole: a file may be of two types at once, or
 * carry something harmful inside a proper one. Scan it, store it under a name of your own, and serve it from another origin.
 * @throws TypeError for options that cannot work.
 */
export function upload(options: UploadOptions = {}): Upload {
  assertKnown('upload', options, known);
  const { maxBytes = 10_485_760, scan } = options;
  const types = options.types ?? (Object.keys(signatures) as UploadType[]);
  if (!Number.isSafeInteger(maxBytes) || maxBytes < 1) {
    throw new TypeError('upload: maxBytes must be an integer of 1 or more');
  }
  if (types.length === 0 || !types.every((type) => Object.hasOwn(signatures, type))) {
    throw new TypeError(`upload: types must be among ${Object.keys(signatures).join(', ')}`);
  }
  if (scan !== undefined && typeof scan !== 'function') {
    throw new TypeError('upload: scan must be a function');
  }
  const bytes = z
    .instanceof(Uint8Array)
    .check(z.maxLength(maxBytes, { abort: true })) as z.ZodCustom<Uint8Array, Uint8Array>;
  const file = z
    .strictObject({ type: z.enum(types) as Upload['shape']['type'], bytes })
    .refine(beginsAsDeclared, { abort: true, path: ['bytes'], params: { code: 'type_mismatch' } });
  return scan ? file.refine(scan, { path: ['bytes'], params: { code: 'refused_by_scan' } }) : file;
}

function beginsAsDeclared({ type, bytes }: UploadedFile): boolean {
  return signatures[type].every((byte, index) => bytes[index] === byte);
}
