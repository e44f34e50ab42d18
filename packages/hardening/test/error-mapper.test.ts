import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { GuardRequest, Pass } from '@countersign/guard';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { errorMapper, type MappedError } from '../src/guard.ts';

const events: unknown[] = [];
const listen = (event: unknown): void => void events.push(event);

beforeEach(() => subscribe('countersign:hardening:error-answered', listen));
afterEach(() => {
  unsubscribe('countersign:hardening:error-answered', listen);
  events.length = 0;
});

const cycle: Record<string, unknown> = {};
cycle['self'] = cycle;

test.each([{ map: 'map' }, { map: {} }, { requestId: 'r1' }, { mapp: () => undefined }])(
  'cannot be built with %j',
  (options) => {
    expect(() => errorMapper(options as never)).toThrow(TypeError);
  },
);

describe('what map says and JSON cannot', () => {
  test.each<[string, MappedError]>([
    ['a bigint', { status: 402, balance: 1n }],
    ['a cycle', { status: 402, cycle }],
    [
      'a member that throws',
      {
        status: 402,
        toJSON: () => {
          throw new Error('no');
        },
      },
    ],
  ])('is a 500 that says nothing, and the event says so: %s', (_what, mapped) => {
    const guard = errorMapper({ map: () => mapped, requestId: () => 'r1' });
    const { explain } = guard({} as GuardRequest, {}) as Pass<undefined>;
    const error = new Error('secret reason');
    expect(explain?.({ status: 500, error })).toEqual({
      pass: false,
      status: 500,
      headers: [['content-type', 'application/problem+json']],
      body: '{"type":"about:blank","title":"Internal Server Error","status":500,"requestId":"r1"}',
    });
    expect(events).toEqual([{ status: 500, error, requestId: 'r1' }]);
  });
});
