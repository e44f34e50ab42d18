import fc from 'fast-check';
import { expect, test } from 'vitest';
import { decodeResponse, encodeResponse } from '../src/stored-response.ts';

const name = fc.stringMatching(/^[a-z][a-z-]{0,10}$/);
const value = fc.stringMatching(/^[\x21-\x7e\xa1-\xff]([\x20-\x7e\xa1-\xff]{0,20}[\x21-\x7e])?$/);
const response = fc.record({
  status: fc.integer({ min: 200, max: 599 }),
  headers: fc.array(fc.tuple(name, value)),
  body: fc.option(
    fc.uint8Array().map((bytes) => Buffer.from(bytes)),
    { nil: undefined },
  ),
});

test('a response is read as it was written, whatever its bytes', () => {
  fc.assert(
    fc.property(response, (stored) => {
      expect(decodeResponse(encodeResponse(stored))).toEqual(stored);
    }),
  );
});

test('a body that looks like a head is a body', () => {
  const body = Buffer.from('\n\n500\n\n');
  const stored = { status: 201, headers: [], body };
  expect(decodeResponse(encodeResponse(stored))).toEqual(stored);
});

test('anything else is no response', () => {
  expect(decodeResponse(Buffer.from('{"value":1}'))).toBeUndefined();
  expect(decodeResponse(Buffer.from('\n\n'))).toBeUndefined();
  expect(decodeResponse(Buffer.from('20\n\n'))).toBeUndefined();
  fc.assert(
    fc.property(fc.uint8Array(), (bytes) => {
      decodeResponse(bytes);
    }),
  );
});
