import { GuardError, type GuardRequest, type Reply } from '@countersign/guard';
import { expect, test } from 'vitest';
import * as z from 'zod';
import { input, upload } from '../src/guard.ts';
import { list, num, text } from '../src/index.ts';

const order = z.object({ amount: num({ min: 0, max: 1000 }) });

function sending(rawBody: GuardRequest['rawBody'], type = 'application/json'): GuardRequest {
  const headers = new Map([['content-type', type]]);
  return {
    method: 'POST',
    path: '/orders',
    query: new URLSearchParams(),
    headers: {
      get: (name) => headers.get(name),
      all: (name) => [headers.get(name) ?? []].flat(),
    },
    remoteAddress: '127.0.0.1',
    secure: true,
    signal: new AbortController().signal,
    rawBody,
  };
}

test('no more of a body is read than is taken', async () => {
  const asked: unknown[] = [];
  const body = '{"amount":5}';
  const request = sending(async (maxBytes) => {
    asked.push(maxBytes);
    return Buffer.from(body);
  });
  expect(await input(order, { maxBytes: 50 })(request, {})).toEqual({
    pass: true,
    context: { amount: 5 },
  });
  expect(asked).toEqual([50]);
});

test('no more of a file is read than is taken', async () => {
  const asked: unknown[] = [];
  const request = sending(async (maxBytes) => {
    asked.push(maxBytes);
    return Buffer.from('%PDF-1.7');
  }, 'application/pdf');
  expect(await upload({ maxBytes: 50 })(request, {})).toMatchObject({ pass: true });
  expect(asked).toEqual([50]);
});

test.each<[string, z.ZodType]>([
  ['refinement', text().refine(async () => true)],
  ['check', text().check(async () => {})],
  ['transformation', text().transform(async (value) => value)],
  ['preparation', z.preprocess(async (value) => value, text())],
  ['change', text().overwrite((async (value: string) => value) as never)],
  [
    'check of a part',
    z.object({ a: list(z.union([num({ min: 0, max: 1 }), text().refine(async () => true)])) }),
  ],
])('an async %s, which nobody would wait for, is refused when the guard is built', (_, schema) => {
  expect(() => input(schema)).toThrow(TypeError);
  expect(() => input(schema)).toThrow('async');
});

test('a body that is refused while it is read is too large an input', async () => {
  const request = sending(async () => {
    throw new GuardError('ERR_GUARD_BODY_TOO_LARGE', 'the body exceeds 50 bytes');
  });
  const reply = (await input(order, { maxBytes: 50 })(request, {})) as Reply;
  expect(reply.status).toBe(413);
  expect(JSON.parse(String(reply.body))).toMatchObject({ code: 'ERR_HARDENING_INPUT_TOO_LARGE' });
});

test('what else keeps a body from being read is not its sender’s to know', async () => {
  const error = new GuardError('ERR_GUARD_BODY_CONSUMED', 'mount the guards before the parser');
  const request = sending(() => Promise.reject(error));
  await expect(input(order)(request, {})).rejects.toBe(error);
});
