import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { createMongoAbility, type MongoAbility, subject } from '@casl/ability';
import type { GuardRequest } from '@countersign/guard';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, expectTypeOf, test } from 'vitest';
import { ability, type Ownership, owner } from '../src/guard.ts';

const request = { method: 'GET', route: '/payments/:id', path: '/payments/p1' } as GuardRequest;

interface Payment {
  readonly id: string;
  readonly owner: string;
}
/** What is no ability of CASL's. */
interface Simple {
  can(action: string, resource: Payment): boolean;
}
const payment: Payment = { id: 'p1', owner: 'alice' };
const byAlice = () => Promise.resolve({ owner: 'alice', resource: payment });

async function statusOf(
  guard: Ownership<unknown, never>,
  context: object,
): Promise<number | 'pass'> {
  const verdict = await guard(request, context as never);
  return verdict.pass ? 'pass' : verdict.status;
}

let events: unknown[] = [];
const note = (event: unknown) => void events.push(event);
beforeEach(() => {
  events = [];
  for (const name of ['owner-refused', 'owner-overridden']) {
    subscribe(`countersign:hardening:${name}`, note);
  }
});
afterEach(() => {
  for (const name of ['owner-refused', 'owner-overridden']) {
    unsubscribe(`countersign:hardening:${name}`, note);
  }
});

describe('the owner', () => {
  test('passes, and the resource need not be loaded again', async () => {
    const verdict = await owner(byAlice)(request, { principal: 'alice' });
    expect(verdict).toEqual({ pass: true, context: payment });
    expect(events).toEqual([]);
  });

  test.each([
    ['a name', { principal: 'alice' }],
    ['an id', { principal: { id: 'alice', payer: 'bob' } }],
    ['the subject of a token', { principal: { subject: 'alice', clientId: 'app' } }],
  ])('is known by %s', async (_name, context) => {
    expect(await owner(() => 'alice')(request, context)).toEqual({
      pass: true,
      context: undefined,
    });
  });

  test('is known by whatever the option says', async () => {
    const guard = owner(byAlice, {
      principal: ({ key }: { key: { owner: string } }) => key.owner,
    });
    expect(await guard(request, { key: { owner: 'alice' } })).toMatchObject({ pass: true });
    expect(await guard(request, { key: { owner: 'bob' } })).toMatchObject({ status: 404 });
  });
});

describe('everybody else', () => {
  test.each([
    ['somebody', byAlice, { principal: 'bob' }],
    ['whoever asks for what there is not', () => undefined, { principal: 'alice' }],
    ['whoever asks for what there is not', () => null, { principal: 'alice' }],
    ['whoever asks for what nobody owns', () => '', { principal: 'alice' }],
    ['nobody', () => '', { principal: '' }],
    ['nobody', () => undefined, {}],
    ['nobody', byAlice, { principal: undefined }],
    ['nobody', byAlice, { principal: {} }],
    ['a list with the name', byAlice, { principal: ['alice'] }],
    [
      'an object that says it is the name',
      byAlice,
      { principal: { id: { toString: () => 'alice' } } },
    ],
    [
      'an owner that is no name',
      () => ({ owner: undefined, resource: payment }) as never,
      { principal: 'alice' },
    ],
    ['an owner that is a list', () => ['alice'] as never, { principal: 'alice' }],
  ])('gets the same 404: %s', async (_name, resolve, context) => {
    const verdict = await owner(resolve as () => string)(request, context as never);
    expect(verdict).toEqual({
      pass: false,
      status: 404,
      headers: [['content-type', 'application/problem+json']],
      body: '{"type":"about:blank","title":"Not Found","status":404}',
    });
  });

  test('is anybody whose name is not exactly the owner’s', async () => {
    await fc.assert(
      fc.asyncProperty(fc.string(), fc.string(), async (owned, asking) => {
        const verdict = await owner(() => owned)(request, { principal: asking });
        expect(verdict.pass).toBe(owned === asking && owned !== '');
      }),
    );
  });

  test.each([
    ['alice', 'Alice'],
    ['alice', 'alice '],
    ['é', 'e\u0301'],
    ['1', '01'],
    ['null', 'undefined'],
  ])('is anybody whose name is like the owner’s: %j, %j', async (owned, asking) => {
    expect(
      await statusOf(
        owner(() => owned),
        { principal: asking },
      ),
    ).toBe(404);
  });

  test('gets 403 where that there is such a resource is no secret', async () => {
    const open = { refuseWith: 403 } as const;
    expect(await statusOf(owner(byAlice, open), { principal: 'bob' })).toBe(403);
    expect(await statusOf(owner(byAlice, open), {})).toBe(403);
    expect(
      await statusOf(
        owner(() => undefined, open),
        { principal: 'bob' },
      ),
    ).toBe(404);
  });

  test('does not have the resource looked up while nobody asks', async () => {
    let lookups = 0;
    const guard = owner(() => {
      lookups += 1;
      return 'alice';
    });
    expect(await statusOf(guard, { principal: undefined })).toBe(404);
    expect(lookups).toBe(0);
  });

  test('is reported, with the reason the caller is not told', async () => {
    await statusOf(owner(byAlice), { principal: 'bob' });
    await statusOf(
      owner(() => undefined),
      { principal: 'bob' },
    );
    await statusOf(owner(byAlice), {});
    const where = { method: 'GET', route: '/payments/:id', status: 404 };
    expect(events).toEqual([
      { ...where, reason: 'foreign', principal: 'bob' },
      { ...where, reason: 'absent', principal: 'bob' },
      { ...where, reason: 'anonymous' },
    ]);
  });

  test('does not pass when the lookup fails', async () => {
    const guard = owner(() => Promise.reject(new Error('database gone')));
    await expect(guard(request, { principal: 'alice' })).rejects.toThrow('database gone');
  });
});

describe('a role', () => {
  const guard = owner(byAlice, {
    roles: ['admin', 'support'],
    rolesOf: ({ principal }: { principal: { id: string; roles: readonly string[] } }) =>
      principal.roles,
  });

  test('opens what belongs to others, and that is reported', async () => {
    const verdict = await guard(request, { principal: { id: 'root', roles: ['x', 'support'] } });
    expect(verdict).toEqual({ pass: true, context: payment });
    expect(events).toEqual([
      { method: 'GET', route: '/payments/:id', principal: 'root', role: 'support' },
    ]);
  });

  test.each([[[]], [['Admin']], [['administrator']], ['admin' as never], [undefined as never]])(
    'is one of those that were named, and nothing like it: %j',
    async (roles) => {
      expect(await statusOf(guard, { principal: { id: 'root', roles } })).toBe(404);
    },
  );

  test('opens nothing that is not there', async () => {
    const absent = owner(() => undefined, { roles: ['admin'], rolesOf: () => ['admin'] });
    expect(await statusOf(absent, { principal: 'root' })).toBe(404);
  });

  test('opens nothing unless it was named', async () => {
    const plain = owner(byAlice, { rolesOf: () => ['admin'] });
    expect(await statusOf(plain, { principal: 'root' })).toBe(404);
  });
});

test.each([
  [() => owner(undefined as never), 'owner: resolve: expected a function'],
  [() => owner(byAlice, { refuseWith: 401 as never }), 'owner: refuseWith: expected 404 or 403'],
  [() => owner(byAlice, { roles: ['admin'] }), 'owner: rolesOf: expected a function'],
  [() => owner(byAlice, { roles: 'admin' as never }), 'owner: roles: expected names of roles'],
  [() => owner(byAlice, { role: 'x' } as never), 'owner: unknown option "role"'],
  [
    () => ability(() => payment, { action: '', of: (): Simple | undefined => undefined }),
    'ability: action',
  ],
  [() => ability(() => payment, { action: 'read' } as never), 'ability: of: expected a function'],
])('a mistake in the options is found when it is built', (build, message) => {
  expect(build).toThrow(TypeError);
  expect(build).toThrow(message);
});

describe('an ability of CASL', () => {
  type App = MongoAbility<['read' | 'refund', 'Payment' | Payment]>;
  const abilityOf = ({ principal }: { principal: string }): App =>
    createMongoAbility<App>([
      { action: 'read', subject: 'Payment', conditions: { owner: principal } },
    ]);
  const load = () => subject('Payment', { ...payment });
  const mayRead = ability(load, { action: 'read', of: abilityOf });

  test('lets through whom it allows, with the resource', async () => {
    expect(await mayRead(request, { principal: 'alice' })).toMatchObject({
      pass: true,
      context: payment,
    });
  });

  test('keeps everybody else out, from what there is not as well', async () => {
    const mayRefund = ability(load, { action: 'refund', of: abilityOf });
    const none = ability((): Payment | undefined => undefined, { action: 'read', of: abilityOf });
    const refused = await mayRead(request, { principal: 'bob' });
    expect(refused).toMatchObject({ status: 404 });
    expect(await mayRefund(request, { principal: 'alice' })).toEqual(refused);
    expect(await none(request, { principal: 'alice' })).toEqual(refused);
    expect(events).toMatchObject([
      { reason: 'foreign' },
      { reason: 'foreign' },
      { reason: 'absent' },
    ]);
  });

  test('is asked about the resource, never about its type: that would be a yes for any', async () => {
    const careless = ability(() => 'Payment' as never, { action: 'read', of: abilityOf });
    expect(await careless(request, { principal: 'bob' })).toMatchObject({ status: 404 });
  });

  test('says yes with true and nothing else', async () => {
    const promising = ability(load, {
      action: 'read',
      of: (): Simple => ({ can: () => Promise.resolve(false) as never }),
    });
    expect(await promising(request, { principal: 'alice' })).toMatchObject({ status: 404 });
    const nobody = ability(load, { action: 'read', of: (): Simple | undefined => undefined });
    expect(await nobody(request, { principal: 'alice' })).toMatchObject({ status: 404 });
  });
});

test('the resource is typed', () => {
  expectTypeOf(owner(byAlice)).toExtend<Ownership<Payment, { principal: string }>>();
  expectTypeOf(owner(() => 'alice')).toExtend<Ownership<undefined, { principal: string }>>();
  const maybe = owner((): { owner: string; resource: Payment } | undefined => undefined);
  expectTypeOf(maybe).toExtend<Ownership<Payment, { principal: string }>>();
  // @ts-expect-error nobody there says who asks
  expectTypeOf(owner(byAlice)).toExtend<Ownership<Payment, { limit: number }>>();
});

test('the rule is data', () => {
  expect(owner(byAlice, { roles: ['admin'], rolesOf: () => [] }).rule).toEqual({
    kind: 'owner',
    refuseWith: 404,
    roles: ['admin'],
  });
  const mayRead = ability(() => payment, {
    action: 'read',
    of: (): Simple | undefined => undefined,
    refuseWith: 403,
  });
  expect(mayRead.rule).toEqual({ kind: 'ability', refuseWith: 403, action: 'read' });
});
