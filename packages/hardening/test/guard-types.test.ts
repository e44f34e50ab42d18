import { chain } from '@countersign/guard';
import { expectTypeOf, test } from 'vitest';
import { type CorsContext, correlationId, cors, errorMapper, requestLog } from '../src/guard.ts';
import type { Correlation } from '../src/index.ts';

test('guards are typed by what they find, and by what the guards before them found', () => {
  const guards = chain()
    .use('correlation', correlationId())
    .use('log', requestLog({ requestId: ({ correlation }) => correlation.id }))
    .use('errors', errorMapper({ requestId: ({ correlation }) => correlation.id }))
    .use('cors', cors({ origins: '*' }));
  type Found = Parameters<Parameters<typeof guards.use>[1]>[1];
  expectTypeOf<Found['correlation']>().toEqualTypeOf<Correlation>();
  expectTypeOf<Found['cors']>().toEqualTypeOf<CorsContext>();
  expectTypeOf<Found['log']>().toEqualTypeOf<undefined>();
  // @ts-expect-error nothing before it has found a correlation
  chain().use('log', requestLog({ requestId: ({ correlation }) => correlation.id }));
});
