import { inspect } from 'node:util';
import { describe, expect, expectTypeOf, it } from 'vitest';
import * as z from 'zod';
import { jsonField, parsePayload, type StandardSchema, type WebhookError } from '../src/index.ts';

const refused = async (work: Promise<unknown>): Promise<WebhookError> =>
  await work.then(
    () => expect.unreachable(),
    (error: unknown) => error as WebhookError,
  );

describe('parsePayload', () => {
  const schema = z.object({ amount: z.string().transform(Number) });

  it.each([
    ['text', '{"amount":"42"}'],
    ['bytes', Buffer.from('{"amount":"42"}')],
  ])('parses %s, and returns what the schema made of it', async (_, body) => {
    const payload = await parsePayload(body, schema);
    expectTypeOf(payload).toEqualTypeOf<{ amount: number }>();
    expect(payload).toEqual({ amount: 42 });
    expect(await parsePayload(body)).toEqual({ amount: '42' });
  });

  it('waits for a schema that takes its time', async () => {
    const slow: StandardSchema<string> = {
      '~standard': { version: 1, validate: async () => await Promise.resolve({ value: 'made' }) },
    };
    expect(await parsePayload('1', slow)).toBe('made');
  });

  it('says what does not match in the cause, not in its message', async () => {
    const error = await refused(parsePayload('{"amount":["card 4242"]}', schema));
    expect(error).toMatchObject({
      code: 'ERR_WEBHOOKS_PAYLOAD_INVALID',
      cause: [{ path: ['amount'] }],
    });
    expect(error.message).not.toContain('4242');
  });

  it.each([
    ['nothing', ''],
    ['half of it', '{"card":4242'],
    ['a byte order mark', '\ufeff{"card":4242}'],
    ['bytes that are not UTF-8', Buffer.of(0x22, 0xff, 0x22)],
  ])('refuses %s, without quoting it', async (_, body) => {
    const error = await refused(parsePayload(body));
    expect(error).toMatchObject({ code: 'ERR_WEBHOOKS_PAYLOAD_NOT_JSON' });
    expect(inspect(error)).not.toContain('4242');
  });
});

describe('jsonField', () => {
  it.each([
    ['id', '{"id":"a"}', 'a'],
    ['data.id', '{"data":{"id":"a"}}', 'a'],
    ['id', '{"id":5}', undefined],
    ['data.id', '{"data":null}', undefined],
    ['constructor.name', '{}', undefined],
  ])('reads %s of %s', (path, body, expected) => {
    expect(jsonField(path)(body)).toBe(expected);
  });
});
