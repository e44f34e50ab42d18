import { createPublicKey, generateKeyPairSync, hash, sign } from 'node:crypto';
import { createLeakReceiver, githubKeys, type ReportKeys } from '@countersign/api-keys';
import { leakReportGuard } from '@countersign/api-keys/guard';
import { describe, expect, it } from 'vitest';
import { collect, guardRequest, managed, START_MS } from './fixtures.ts';

// The example of GitHub's documentation of its partner program, and the public key that it is signed with.
const IDENTIFIER = 'bcb53661c06b4728e59d897fb6165d5c9cda0fd9cdf9d09ead458168deb7518c';
const PUBLIC_KEY = `-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEYAGMWO8XgCamYKMJS6jc/qgvSlAd
AjPuDPRcXU22YxgBrz+zoN19MzuRyW87qEt9/AmtoNP5GrobzUvQSyJFVw==
-----END PUBLIC KEY-----
`;
const SIGNATURE =
  'MEQCIQDaMKqrGnE27S0kgMrEK0eYBmyG0LeZismAEz/BgZyt7AIfXt9fErtRS4XaeSt/AO1RtBY66YcAdjxji410VQV4xg==';
const BODY =
  '[{"source":"commit","token":"some_token","type":"some_type","url":"https://example.com/base-repo-url/"}]';

const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const ours: ReportKeys = async (identifier) => (identifier === 'k1' ? publicKey : undefined);

function signed(matches: unknown, identifier = 'k1'): { body: Buffer; headers: Headers } {
  const body = Buffer.from(typeof matches === 'string' ? matches : JSON.stringify(matches));
  const signature = sign('sha256', body, { key: privateKey, dsaEncoding: 'der' }).toString(
    'base64',
  );
  return {
    body,
    headers: new Headers({
      'Github-Public-Key-Identifier': identifier,
      'Github-Public-Key-Signature': signature,
    }),
  };
}

const match = (token: string) => ({
  token,
  type: 'acme_api_key',
  url: 'https://github.com/a/b/blob/c/d.txt',
  source: 'content',
});

describe('createLeakReceiver', () => {
  it("accepts GitHub's published example", async () => {
    const publicKeys: ReportKeys = async (id) =>
      id === IDENTIFIER ? createPublicKey(PUBLIC_KEY) : undefined;
    const receiver = createLeakReceiver({ keys: managed().keys, publicKeys });
    const headers = new Headers({
      'Github-Public-Key-Identifier': IDENTIFIER,
      'Github-Public-Key-Signature': SIGNATURE,
    });
    expect(await receiver.receive(Buffer.from(BODY), headers)).toEqual([
      {
        token_hash: hash('sha256', 'some_token', 'hex'),
        token_type: 'some_type',
        label: 'false_positive',
      },
    ]);
    await expect(receiver.receive(Buffer.from(`${BODY}\n`), headers)).rejects.toMatchObject({
      code: 'ERR_API_KEYS_REPORT_SIGNATURE',
    });
  });

  it('revokes genuine keys, of every manager, and says which were', async () => {
    const live = managed();
    const test = managed({ environment: 'test' });
    const receiver = createLeakReceiver({ keys: [live.keys, test.keys], publicKeys: ours });
    const first = await live.keys.create({ owner: 'a', scopes: [], ipAllowlist: ['10.0.0.1'] });
    const second = await test.keys.create({ owner: 'b', scopes: [] });
    const stranger = await managed().keys.create({ owner: 'c', scopes: [] });
    const { events, stop } = collect('leaked');
    const { body, headers } = signed([first.key, second.key, stranger.key, 'junk'].map(match));
    const feedback = await receiver.receive(body, headers);
    stop();
    expect(feedback.map(({ label }) => label)).toEqual([
      'true_positive',
      'true_positive',
      'false_positive',
      'false_positive',
    ]);
    expect(JSON.stringify(feedback)).not.toContain(first.key);
    expect((await live.keys.verify(first.key)).status).toBe('revoked');
    expect((await test.keys.verify(second.key)).status).toBe('revoked');
    expect(await live.keys.get(first.record.id)).toMatchObject({
      revokedReason: 'leaked: content https://github.com/a/b/blob/c/d.txt',
    });
    expect(events.map(({ record, source }) => [record.id, source])).toEqual([
      [first.record.id, 'content'],
      [second.record.id, 'content'],
    ]);
    // The same report again changes nothing and is answered the same.
    expect(await receiver.receive(body, headers)).toEqual(feedback);
  });

  it('believes no report without a good signature of a known key', async () => {
    const { keys } = managed();
    const { key } = await keys.create({ owner: 'a', scopes: [] });
    const receiver = createLeakReceiver({ keys, publicKeys: ours });
    const { body, headers } = signed([match(key)]);
    const without = (name: string) => {
      const fewer = new Headers(headers);
      fewer.delete(name);
      return fewer;
    };
    const forged = new Headers(headers);
    forged.set('Github-Public-Key-Signature', Buffer.from('junk').toString('base64'));
    const attempts = [
      receiver.receive(body, without('Github-Public-Key-Signature')),
      receiver.receive(body, without('Github-Public-Key-Identifier')),
      receiver.receive(body, forged),
      receiver.receive(Buffer.concat([body, Buffer.from(' ')]), headers),
      receiver.receive(body, signed([match(key)], 'k2').headers),
    ];
    for (const attempt of attempts) {
      await expect(attempt).rejects.toMatchObject({ code: 'ERR_API_KEYS_REPORT_SIGNATURE' });
    }
    expect((await keys.verify(key)).status).toBe('valid');
  });

  it('refuses reports it cannot read, without quoting them', async () => {
    const receiver = createLeakReceiver({
      keys: managed().keys,
      publicKeys: ours,
      maxBodyBytes: 1000,
    });
    for (const wrong of [
      '{',
      '{}',
      '[1]',
      '[{}]',
      '[null]',
      '[{"token":"x"}]',
      JSON.stringify([match('x'.repeat(600))]),
    ]) {
      const { body, headers } = signed(wrong);
      const error: unknown = await receiver
        .receive(body, headers)
        .catch((reason: unknown) => reason);
      expect(error).toMatchObject({ code: 'ERR_API_KEYS_REPORT_MALFORMED' });
      expect((error as Error).cause).toBeUndefined();
    }
    const large = signed('x'.repeat(1001));
    await expect(receiver.receive(large.body, large.headers)).rejects.toMatchObject({
      code: 'ERR_API_KEYS_REPORT_MALFORMED',
    });
  });

  it('revokes what it can before it passes on that the store failed', async () => {
    const working = managed();
    const broken = {
      ...working.keys,
      identify: async (token: string) => {
        if (token === 'poison') throw new Error('down');
        return working.keys.identify(token);
      },
    };
    const { key } = await working.keys.create({ owner: 'a', scopes: [] });
    const receiver = createLeakReceiver({ keys: broken, publicKeys: ours });
    const { body, headers } = signed([match('poison'), match(key)]);
    await expect(receiver.receive(body, headers)).rejects.toThrow('down');
    expect((await working.keys.verify(key)).status).toBe('revoked');
  });

  it('answers over HTTP as the protocol wants', async () => {
    const { keys } = managed();
    const { key } = await keys.create({ owner: 'a', scopes: [] });
    const guard = leakReportGuard(createLeakReceiver({ keys, publicKeys: ours }));
    const send = ({ body, headers }: { body: Uint8Array; headers: Headers }) =>
      guard({ ...guardRequest([...headers]), method: 'POST', rawBody: async () => body }, {});
    const reply = await send(signed([match(key)]));
    expect(reply).toMatchObject({
      pass: false,
      status: 200,
      headers: [['Content-Type', 'application/json']],
    });
    expect(JSON.parse(String((reply as { body: string }).body))).toMatchObject([
      { label: 'true_positive' },
    ]);
    expect(await send({ ...signed([]), body: Buffer.from('x') })).toMatchObject({ status: 401 });
    expect(await send(signed('x'))).toMatchObject({ status: 400 });
    // What the adapter says of a body is the adapter's to answer (413, 400): not a store's failure to be repeated.
    const tooLarge = Object.assign(new Error('too large'), { code: 'ERR_GUARD_BODY_TOO_LARGE' });
    const large = { ...guardRequest(), rawBody: () => Promise.reject(tooLarge) };
    await expect(guard(large, {})).rejects.toBe(tooLarge);
    const down = leakReportGuard(
      createLeakReceiver({ keys, publicKeys: () => Promise.reject(new Error('no network')) }),
    );
    expect(
      await down(
        { ...guardRequest([...signed([]).headers]), rawBody: async () => Buffer.from('[]') },
        {},
      ),
    ).toMatchObject({ status: 503 });
  });
});

describe('a report that is only partly readable', () => {
  it('revokes what comes after a record that cannot be read, and asks for the report again', async () => {
    const { keys } = managed();
    const { key, record } = await keys.create({ owner: 'acme', scopes: [] });
    const broken = {
      ...keys,
      identify: async (text: string) => {
        if (text === 'corrupt') throw new Error('corrupt');
        return await keys.identify(text);
      },
    };
    const receiver = createLeakReceiver({ keys: broken, publicKeys: ours });
    const junk = Array.from({ length: 30 }, (_, at) => match(`junk${at}`));
    const { body, headers } = signed([match('corrupt'), ...junk, match(key)]);
    await expect(receiver.receive(body, headers)).rejects.toThrow('corrupt');
    expect((await keys.get(record.id))?.revokedAtMs).toBe(START_MS);
  });

  it('revokes a key whose URL is no well-formed text', async () => {
    const { keys } = managed();
    const { key, record } = await keys.create({ owner: 'acme', scopes: [] });
    const receiver = createLeakReceiver({ keys, publicKeys: ours });
    const { body, headers } = signed([{ ...match(key), url: '\ud800' }]);
    await receiver.receive(body, headers);
    expect((await keys.get(record.id))?.revokedReason?.isWellFormed()).toBe(true);
  });
});

describe('githubKeys', () => {
  it('asks no sooner again for an unknown identifier because it failed', async () => {
    const { keys, clock, requests } = source(() =>
      requests.length === 2 ? new Response(null, { status: 403 }) : answer(IDENTIFIER),
    );
    await keys(IDENTIFIER);
    clock.ms += 60_000;
    await expect(keys('other')).rejects.toMatchObject({ code: 'ERR_API_KEYS_REPORT_KEYS' });
    expect(await keys('other')).toBeUndefined();
    expect(requests).toHaveLength(2);
  });

  const answer = (identifier: string, isCurrent = true) =>
    Response.json({
      public_keys: [{ key_identifier: identifier, key: PUBLIC_KEY, is_current: isCurrent }],
    });

  function source(respond: () => Response | Promise<Response>) {
    const clock = { ms: START_MS };
    const requests: { url: string; headers: Headers }[] = [];
    const keys = githubKeys({
      token: 'gh-token',
      now: () => clock.ms,
      fetch: async (url, init) => {
        requests.push({ url: new Request(url).url, headers: new Headers(init?.headers) });
        return respond();
      },
    });
    return { keys, clock, requests };
  }

  it('fetches once an hour, and sooner for an unknown identifier but not more than once a minute', async () => {
    const { keys, clock, requests } = source(() => answer(IDENTIFIER));
    const all = await Promise.all([keys(IDENTIFIER), keys(IDENTIFIER), keys('other')]);
    expect(all.map((key) => key?.asymmetricKeyType)).toEqual(['ec', 'ec', undefined]);
    expect(requests).toHaveLength(1);
    expect(requests[0]?.url).toBe('https://api.github.com/meta/public_keys/secret_scanning');
    expect(requests[0]?.headers.get('authorization')).toBe('Bearer gh-token');
    clock.ms += 59_999;
    await keys('other');
    expect(requests).toHaveLength(1);
    clock.ms += 1;
    await keys('other');
    await keys('other');
    expect(requests).toHaveLength(2);
    clock.ms += 3_599_999;
    await keys(IDENTIFIER);
    expect(requests).toHaveLength(2);
    clock.ms += 1;
    await keys(IDENTIFIER);
    expect(requests).toHaveLength(3);
  });

  it('asks no more than once a minute when it has nothing and is refused', async () => {
    const { keys, clock, requests } = source(() =>
      requests.length === 1 ? new Response(null, { status: 429 }) : answer(IDENTIFIER),
    );
    for (let report = 0; report < 5; report += 1)
      await expect(keys(IDENTIFIER)).rejects.toMatchObject({ code: 'ERR_API_KEYS_REPORT_KEYS' });
    expect(requests).toHaveLength(1);
    clock.ms += 60_000;
    expect(await keys(IDENTIFIER)).toBeDefined();
  });

  it('uses the keys that it can read, whatever stands beside them', async () => {
    const { keys } = source(() =>
      Response.json({
        public_keys: [
          { key_identifier: 'new', key: 'of an algorithm yet to come', is_current: true },
          { key_identifier: IDENTIFIER, key: PUBLIC_KEY, is_current: true },
        ],
      }),
    );
    expect(await keys(IDENTIFIER)).toBeDefined();
    expect(await keys('new')).toBeUndefined();
  });

  it('does not count retired keys', async () => {
    const { keys } = source(() => answer(IDENTIFIER, false));
    expect(await keys(IDENTIFIER)).toBeUndefined();
  });

  it('fails closed when it cannot ask', async () => {
    for (const respond of [
      () => new Response('', { status: 403 }),
      () => Response.json({}),
      () => new Response('<html>'),
      () => Promise.reject(new Error('no network')),
    ]) {
      await expect(source(respond).keys(IDENTIFIER)).rejects.toMatchObject({
        code: 'ERR_API_KEYS_REPORT_KEYS',
      });
    }
  });
});
