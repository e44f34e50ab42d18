import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type CorrelationFields, correlationId, parseTraceparent } from '../src/index.ts';

const traceId = '0af7651916cd43dd8448eb211c80319c';
const parentId = 'b7ad6b7169203331';
const traceparent = `00-${traceId}-${parentId}-01`;

const fields = (parts: Partial<CorrelationFields> = {}): CorrelationFields => ({
  requestId: [],
  traceparent: [],
  tracestate: [],
  trusted: true,
  ...parts,
});

describe('correlationId', () => {
  const decide = correlationId();

  test('keeps the id that a trusted proxy sends', () => {
    expect(decide(fields({ requestId: ['req_1-A'] })).id).toBe('req_1-A');
    expect(decide(fields({ requestId: ['x'.repeat(64)] })).id).toBe('x'.repeat(64));
  });

  test('keeps nothing that anybody else sends', () => {
    const found = decide(
      fields({
        requestId: ['req-1'],
        traceparent: [traceparent],
        tracestate: ['a=1'],
        trusted: false,
      }),
    );
    expect(found.id).not.toBe('req-1');
    expect(found.traceId).not.toBe(traceId);
    expect(found).not.toHaveProperty('parentId');
    expect(found).not.toHaveProperty('tracestate');
  });

  test.each([
    [[]],
    [['']],
    [['x'.repeat(65)]],
    [['a b']],
    [['a\n']],
    [['é']],
    [['<script>']],
    [['a', 'a']],
    [['a, b']],
  ])('makes one in the place of %j', (requestId) => {
    const { id } = decide(fields({ requestId }));
    expect(id).toMatch(/^[\w-]{1,64}$/);
    expect(requestId).not.toContain(id);
  });

  test('goes on with the trace of a trusted proxy, under a span of its own', () => {
    const found = decide(fields({ traceparent: [traceparent], tracestate: ['b=2', 'a=1'] }));
    expect(found).toMatchObject({ traceId, parentId, sampled: true, tracestate: 'b=2,a=1' });
    expect(parseTraceparent(found.traceparent)).toEqual({
      traceId,
      parentId: found.spanId,
      sampled: true,
    });
    expect(found.spanId).not.toBe(parentId);
  });

  test.each([
    ['malformed', ['00-nonsense']],
    ['sent twice', [traceparent, traceparent]],
  ])('begins a new trace when the one it is given is %s', (_what, lines) => {
    const found = decide(fields({ traceparent: lines, tracestate: ['a=1'] }));
    expect(parseTraceparent(found.traceparent)).toBeDefined();
    expect(found.traceId).not.toBe(traceId);
    expect(found).not.toHaveProperty('tracestate');
  });

  test('whatever is sent, what comes out can stand in a header and in a log', () => {
    fc.assert(
      fc.property(
        fc.array(fc.string()),
        fc.array(fc.string()),
        fc.array(fc.string()),
        fc.boolean(),
        (requestId, trace, tracestate, trusted) => {
          const found = decide({ requestId, traceparent: trace, tracestate, trusted });
          expect(found.id).toMatch(/^[\w-]{1,64}$/);
          expect(parseTraceparent(found.traceparent)).toBeDefined();
          expect(found.tracestate ?? '').toMatch(/^[\x20-\x7e]{0,512}$/);
        },
      ),
    );
  });

  test('uses the ids it is told to make, if they are some', () => {
    expect(correlationId({ generate: () => 'one' })(fields()).id).toBe('one');
    expect(() => correlationId({ generate: () => 'a b' })(fields())).toThrow(TypeError);
    expect(() => correlationId({ generate: 'x' as never })).toThrow(TypeError);
    expect(() => correlationId({ trust: true } as never)).toThrow(/unknown option "trust"/);
  });
});
