import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { chain } from '@countersign/guard';
import { node } from '@countersign/guard/node';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type DeadlineGuardOptions, deadlineGuard } from '../src/guard.ts';
import { createClient } from '../src/index.ts';

async function serveGuarded(options: DeadlineGuardOptions = {}) {
  const guards = chain().use('caller', deadlineGuard(options));
  const server = createServer(
    node(guards, (_request, response, { caller }) => {
      response.end(String(Math.round(caller.deadline.remaining())));
    }),
  );
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const client = createClient({
    origin,
    egress: { allow: ['http://127.0.0.1:*'] },
    retry: false,
  });
  onTestFinished(() => client.close());
  return client;
}

describe('deadlineGuard', () => {
  test('grants what the client has left', async () => {
    const client = await serveGuarded();
    const left = Number((await client.get('/', { deadlineMs: 5000, as: 'text' })).body);
    expect(left).toBeGreaterThan(3000);
    expect(left).toBeLessThanOrEqual(5000);
  });

  test('never more than its own limit, which is also for those who say nothing', async () => {
    const client = await serveGuarded({ maxMs: 1000 });
    const headers = { 'request-timeout-ms': '99999999' };
    for (const options of [{}, { headers }]) {
      const left = Number((await client.get('/', { ...options, as: 'text' })).body);
      expect(left).toBeLessThanOrEqual(1000);
    }
  });

  test('does not begin what its caller will not wait for', async () => {
    const client = await serveGuarded({ minMs: 500 });
    await expect(client.get('/', { deadlineMs: 400 })).rejects.toMatchObject({
      code: 'ERR_CLIENT_PROBLEM',
      status: 504,
    });
  });

  test.each([
    { header: '' },
    { header: 'a b' },
    { header: null as unknown as string },
    { maxMs: 0 },
    { maxMs: 2 ** 31 },
    { minMs: -1 },
    { minMs: 40_000 },
    { max: 5 } as DeadlineGuardOptions,
  ])('refuses %o at construction', (options) => {
    expect(() => deadlineGuard(options)).toThrow(TypeError);
  });

  test.each(['soon', '-1', '1.5', '1e3', ''])('refuses %j with 400', (value) => {
    const guard = deadlineGuard();
    const request = {
      headers: { get: () => value, all: () => [value] },
      signal: new AbortController().signal,
    } as unknown as Parameters<typeof guard>[0];
    expect(guard(request, {})).toMatchObject({ pass: false, status: 400 });
  });

  test('aborts when the caller goes away, and until then only in time', () => {
    const guard = deadlineGuard();
    const caller = new AbortController();
    const verdict = guard(
      {
        headers: { get: () => '5000', all: () => ['5000'] },
        signal: caller.signal,
      } as unknown as Parameters<typeof guard>[0],
      {},
    );
    if (verdict instanceof Promise || !verdict.pass) throw new TypeError('a pass was expected');
    const { deadline } = verdict.context;
    expect(deadline.signal.aborted).toBe(false);
    caller.abort();
    expect(deadline.signal.aborted).toBe(true);
    void verdict.settle?.({ status: 200, headers: [], aborted: false });
  });
});
