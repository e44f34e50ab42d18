import { createHash } from 'node:crypto';
import {
  appendFile,
  type FileHandle,
  mkdtemp,
  open,
  readdir,
  readFile,
  rm,
  stat,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import {
  type ClientOptions,
  createClient,
  type JournalEntry,
  type JournalStore,
} from '../src/index.ts';
import { type FileJournalOptions, fileJournal } from '../src/journal.ts';
import { FakeDispatcher, type Reply } from './fake-dispatcher.ts';
import { journalStoreContract } from './store.contract.ts';

let directory: string;
let path: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'countersign-journal-'));
  path = join(directory, 'journal');
});
afterEach(() => rm(directory, { recursive: true }));

/** A process that was killed leaves its lock behind; its number is nobody's now. */
const NOBODY = '999999999';

journalStoreContract('fileJournal', () => {
  const store = fileJournal(path);
  let heir: JournalStore | undefined;
  return {
    store,
    async afterCrash() {
      // Nobody waits for the line of a call that is over; here it is to have reached the disk before the crash.
      await store.close();
      await writeFile(`${path}.lock`, NOBODY);
      heir = fileJournal(path);
      return heir;
    },
    close: () => heir?.close(),
  };
});

const origin = 'https://api.example.com';
const entry = (key: string) => ({
  version: 1 as const,
  key,
  origin,
  method: 'POST',
  path: '/x',
  headers: {},
  fingerprint: '0',
  createdAtMs: 0,
  deadlineAtMs: 0,
  expiresAtMs: 1,
});

describe('fileJournal', () => {
  test('is readable by its owner only', async () => {
    const journal = fileJournal(path);
    await journal.begin(entry('a'));
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    await journal.close();
  });

  test('is for one process at a time', async () => {
    const journal = fileJournal(path);
    await journal.begin(entry('a'));
    await expect(fileJournal(path).begin(entry('b'))).rejects.toMatchObject({
      code: 'ERR_CLIENT_JOURNAL',
      message: expect.stringContaining(`process ${process.pid}`) as string,
    });
    await journal.close();
    const next = fileJournal(path);
    await next.begin(entry('b'));
    await next.close();
  });

  test('a line that was being written in the crash is as if it had not been', async () => {
    const journal = fileJournal(path);
    await journal.begin(entry('a'));
    await journal.close();
    await appendFile(path, '{"begin":{"version":1,"key":"tor');
    const next = fileJournal(path);
    expect((await next.claim(origin, 1000))?.key).toBe('a');
    expect(await next.claim(origin, 1000)).toBeUndefined();
    await next.close();
  });

  test.each(['{"begin":{"version":2}}\n', 'x\n', '{}\n', 'null\n', '{"settle":null}\n'])(
    'a damaged file is refused: %j',
    async (line) => {
      await writeFile(path, line);
      const journal = fileJournal(path);
      await expect(journal.begin(entry('a'))).rejects.toMatchObject({
        code: 'ERR_CLIENT_JOURNAL',
      });
      await journal.close();
      await expect(stat(`${path}.lock`)).rejects.toMatchObject({ code: 'ENOENT' });
    },
  );

  test('does not grow with the calls that are over', async () => {
    const journal = fileJournal(path);
    await journal.begin(entry('open'));
    for (let round = 0; round < 20; round += 1) {
      const keys = Array.from({ length: 200 }, (_, index) => `${round}-${index}`);
      await Promise.all(keys.map((key) => journal.begin(entry(key))));
      await Promise.all(keys.map((key) => journal.settle(origin, key)));
    }
    await journal.begin(entry('last'));
    await journal.close();
    const lines = (await readFile(path, 'utf8')).split('\n').length;
    expect(lines).toBeLessThan(2500);
    const next = fileJournal(path);
    const left = [await next.claim(origin, 9e9), await next.claim(origin, 9e9)];
    expect(left.map((each) => each?.key)).toEqual(['open', 'last']);
    await next.close();
  });

  test('a write that fails halfway spoils nothing, and what it was for is never sent later', async () => {
    const journal = fileJournal(path);
    await journal.begin(entry('a'));
    const probe = await open(path);
    const file = Object.getPrototypeOf(probe) as FileHandle;
    await probe.close();
    const full = vi.spyOn(file, 'appendFile').mockImplementationOnce(async function (
      this: FileHandle,
      text,
    ) {
      await this.write((text as string).slice(0, 30));
      throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
    });
    onTestFinished(() => full.mockRestore());
    await expect(journal.begin(entry('b'))).rejects.toMatchObject({ code: 'ERR_CLIENT_JOURNAL' });
    await journal.begin(entry('c'));
    const live = [await journal.claim(origin, 9e9), await journal.claim(origin, 9e9)];
    expect(live.map((each) => each?.key)).toEqual(['a', 'c']);
    expect(await journal.claim(origin, 9e9)).toBeUndefined();
    await journal.close();
    const next = fileJournal(path);
    const left = [await next.claim(origin, 9e9), await next.claim(origin, 9e9)];
    expect(left.map((each) => each?.key)).toEqual(['a', 'c']);
    expect(await next.claim(origin, 9e9)).toBeUndefined();
    await next.close();
  });

  test('keeps to its own clock: the deadline of who began an entry, then the lease of who claimed it', async () => {
    let nowMs = 5000;
    const journal = fileJournal(path, { now: () => nowMs });
    await journal.begin({ ...entry('a'), createdAtMs: 5000, deadlineAtMs: 6000 });
    const claimedAt = async (atMs: number): Promise<string | undefined> => {
      nowMs = atMs;
      return (await journal.claim(origin, 1000))?.key;
    };
    expect(await claimedAt(5999)).toBeUndefined();
    expect(await claimedAt(6000)).toBe('a');
    expect(await claimedAt(6999)).toBeUndefined();
    expect(await claimedAt(7000)).toBe('a');
    await journal.close();
  });

  test('refuses what is no path and no clock', () => {
    expect(() => fileJournal('')).toThrow(/path/);
    expect(() => fileJournal(path, { clock: Date.now } as FileJournalOptions)).toThrow(/clock/);
    expect(() => fileJournal(path, { now: 5 as unknown as () => number })).toThrow(/now/);
  });

  test('gives the entry that was claimed longest ago last', async () => {
    const journal = fileJournal(path);
    for (const key of ['a', 'b', 'c']) await journal.begin(entry(key));
    const claimed = [];
    for (let round = 0; round < 4; round += 1) claimed.push((await journal.claim(origin, 0))?.key);
    expect(claimed).toEqual(['a', 'b', 'c', 'a']);
    await journal.close();
  });

  test('of many that find a dead lock, one gets it', async () => {
    for (let round = 0; round < 20; round += 1) {
      await writeFile(`${path}.lock`, round % 2 === 0 ? NOBODY : '');
      const journals = Array.from({ length: 8 }, () => fileJournal(path));
      const opened = await Promise.allSettled(
        journals.map(async (each, index) => {
          // Not in step with each other, so that one finds what another has done in part.
          for (let turn = 0; turn < index * round; turn += 1) await setImmediate();
          await each.begin(entry('a'));
        }),
      );
      expect(opened.filter(({ status }) => status === 'fulfilled').length).toBe(1);
      await Promise.all(journals.map((each) => each.close()));
      expect((await readdir(directory)).filter((name) => name.includes('lock'))).toEqual([]);
    }
  });

  test.runIf(process.platform === 'linux')(
    'a process that was given the number of a dead one is not that one',
    async () => {
      // As in a container, where every process of a service is number 1.
      await writeFile(`${path}.lock`, `${process.pid} 1`);
      const journal = fileJournal(path);
      await journal.begin(entry('a'));
      await journal.close();
    },
  );

  test('is of no use when it has been closed, or in a directory that is not there', async () => {
    const journal = fileJournal(path);
    await journal.close();
    await expect(journal.begin(entry('a'))).rejects.toMatchObject({ code: 'ERR_CLIENT_JOURNAL' });
    await expect(
      fileJournal(join(directory, 'no', 'where')).begin(entry('a')),
    ).rejects.toMatchObject({ code: 'ERR_CLIENT_JOURNAL' });
  });
});

describe('a client with a journal', () => {
  function setUp(replies: readonly Reply[], options: Partial<ClientOptions> = {}) {
    const journal = fileJournal(path);
    const dispatcher = new FakeDispatcher(
      (index) => replies[Math.min(index, replies.length - 1)] ?? {},
    );
    const client = createClient({
      origin,
      egress: dispatcher,
      journal,
      retry: { baseMs: 1, capMs: 1 },
      ...options,
    });
    return { journal, dispatcher, client };
  }

  test('writes a call down before it is sent, without its credentials, and forgets it afterwards', async () => {
    let written = '';
    const journal = fileJournal(path);
    const dispatcher = new FakeDispatcher(() => ({ status: 201 }));
    const client = createClient({
      origin,
      egress: dispatcher,
      journal,
      interceptors: [
        (dispatch) =>
          function look(request, handler) {
            void readFile(path, 'utf8').then((text) => {
              written = text;
              dispatch(request, handler);
            });
            return true;
          },
      ],
    });
    const { idempotencyKey } = await client.post('/payments?x=1', {
      json: { amount: 5 },
      headers: { Authorization: 'Bearer hunter2', 'X-Tenant': 'a' },
    });
    expect(JSON.parse(written)).toEqual({
      begin: expect.objectContaining({
        version: 1,
        key: idempotencyKey,
        origin,
        method: 'POST',
        path: '/payments?x=1',
        headers: { 'content-type': 'application/json', 'x-tenant': 'a' },
        body: Buffer.from('{"amount":5}').toString('base64'),
      }) as unknown,
    });
    expect(await client.recover()).toEqual([]);
    await client.get('/');
    await journal.close();
    expect(await readFile(path, 'utf8')).not.toContain('hunter2');
  });

  test('forgets a call whose failure its caller was told', async () => {
    const { client, journal } = setUp([{ status: 503 }]);
    await expect(client.post('/x', { json: {} })).rejects.toMatchObject({ status: 503 });
    expect(await client.recover()).toEqual([]);
    await journal.close();
  });

  test('sends nothing when it cannot be written', async () => {
    const { client, journal, dispatcher } = setUp([{ status: 200 }]);
    await journal.close();
    await expect(client.post('/x', { json: {} })).rejects.toMatchObject({
      code: 'ERR_CLIENT_JOURNAL',
    });
    expect(dispatcher.requests).toEqual([]);
  });

  describe('while it is being written', () => {
    function slowJournal() {
      let written = (): void => {};
      const settled: string[] = [];
      const journal: JournalStore = {
        begin: () =>
          new Promise((resolve) => {
            written = resolve;
          }),
        settle: async (_origin, key) => void settled.push(key),
        claim: async () => undefined,
        close: async () => {},
      };
      return { journal, settled, written: () => written() };
    }

    test('an abort ends the call at once, and nothing is left of it', async () => {
      const { journal, settled, written } = slowJournal();
      const { client, dispatcher } = setUp([{}], { journal });
      const controller = new AbortController();
      const call = client.post('/x', { signal: controller.signal, idempotencyKey: 'k' });
      controller.abort();
      await expect(call).rejects.toMatchObject({ code: 'ERR_CLIENT_ABORTED', attempts: 0 });
      expect(settled).toEqual([]);
      written();
      await expect.poll(() => settled).toEqual(['k']);
      expect(dispatcher.requests).toEqual([]);
    });

    test('an abort does not wait until it is forgotten', async () => {
      const { journal, written } = slowJournal();
      const { client, dispatcher } = setUp([{ afterMs: Infinity }], {
        journal: { ...journal, settle: () => new Promise(() => {}) },
      });
      const controller = new AbortController();
      const call = client.post('/x', { signal: controller.signal });
      written();
      await expect.poll(() => dispatcher.requests.length).toBe(1);
      controller.abort();
      await expect(call).rejects.toMatchObject({ code: 'ERR_CLIENT_ABORTED' });
    });

    test('a call that was given up does not take the entry of its repetition with it', async () => {
      const { journal, settled } = slowJournal();
      const begun: (() => void)[] = [];
      const { client, dispatcher } = setUp([{ afterMs: Infinity }], {
        journal: { ...journal, begin: () => new Promise((resolve) => void begun.push(resolve)) },
      });
      const [first, second] = [new AbortController(), new AbortController()];
      const once = client.post('/x', { signal: first.signal, idempotencyKey: 'k' });
      first.abort();
      await expect(once).rejects.toMatchObject({ code: 'ERR_CLIENT_ABORTED' });
      const again = client.post('/x', { signal: second.signal, idempotencyKey: 'k' });
      for (const resolve of begun) resolve();
      await expect.poll(() => dispatcher.requests.length).toBe(1);
      await setImmediate();
      expect(settled).toEqual([]);
      second.abort();
      await expect(again).rejects.toMatchObject({ code: 'ERR_CLIENT_ABORTED' });
      await expect.poll(() => settled).toEqual(['k']);
    });

    test('what was given up is not finished later, although the process ends in an orderly way now', async () => {
      const journal = fileJournal(path);
      const { client, dispatcher } = setUp([{}], { journal });
      const controller = new AbortController();
      const call = client.post('/x', { signal: controller.signal, idempotencyKey: 'k' });
      controller.abort();
      await expect(call).rejects.toMatchObject({ code: 'ERR_CLIENT_ABORTED', attempts: 0 });
      await client.close();
      await journal.close();
      const next = setUp([{}]);
      expect(await next.client.recover()).toEqual([]);
      expect(dispatcher.requests).toEqual([]);
      await next.journal.close();
    });

    test.each<[string, () => never]>([
      [
        'throws',
        () => {
          throw new Error('no');
        },
      ],
      ['is no promise', () => undefined as never],
    ])('an answer stays an answer when settle() %s', async (_, settle) => {
      const { journal } = slowJournal();
      const { client } = setUp([{}], { journal: { ...journal, begin: async () => {}, settle } });
      expect(await client.post('/x')).toMatchObject({ status: 200 });
    });

    test('begin() that throws is a journal that cannot be used', async () => {
      const { journal } = slowJournal();
      const begin = (): never => {
        throw new Error('no');
      };
      const { client, dispatcher } = setUp([{}], { journal: { ...journal, begin } });
      await expect(client.post('/x')).rejects.toMatchObject({ code: 'ERR_CLIENT_JOURNAL' });
      expect(dispatcher.requests).toEqual([]);
    });

    test('a fetch is written down, too, before it is sent', async () => {
      const { journal, settled, written } = slowJournal();
      const begun: JournalEntry[] = [];
      const { client, dispatcher } = setUp([{ status: 201 }], {
        journal: {
          ...journal,
          begin(each) {
            begun.push(each);
            return journal.begin(each);
          },
        },
      });
      const headers = { authorization: 'Bearer hunter2', 'content-type': 'application/json' };
      const call = client.fetch('/x', { method: 'POST', body: '{}', headers });
      await expect.poll(() => begun.length).toBe(1);
      expect(dispatcher.requests).toEqual([]);
      written();
      expect((await call).status).toBe(201);
      const [entry] = begun;
      expect(entry).toMatchObject({
        method: 'POST',
        path: '/x',
        body: Buffer.from('{}').toString('base64'),
        headers: { 'content-type': 'application/json' },
      });
      expect(JSON.stringify(entry)).not.toContain('hunter2');
      await expect.poll(() => settled).toEqual([entry?.key]);
    });

    test('the deadline ends it', async () => {
      vi.useFakeTimers();
      onTestFinished(() => void vi.useRealTimers());
      const { journal } = slowJournal();
      const { client, dispatcher } = setUp([{}], { journal });
      const call = client.post('/x', { deadlineMs: 100 }).catch((error: unknown) => error);
      await vi.advanceTimersByTimeAsync(100);
      expect(await call).toMatchObject({ code: 'ERR_CLIENT_DEADLINE_EXCEEDED', attempts: 0 });
      expect(dispatcher.requests).toEqual([]);
    });
  });

  test('refuses a streamed body, which could not be sent again after a crash', async () => {
    const { client, journal } = setUp([{ status: 200 }]);
    const body = async function* (): AsyncGenerator<string> {
      yield 'x';
    };
    await expect(client.post('/x', { body })).rejects.toThrow(TypeError);
    await journal.close();
  });

  describe('recover()', () => {
    /** What a process leaves behind that is killed while its call is under way. */
    async function crashed(options: Partial<ClientOptions> = {}): Promise<string> {
      const { client, dispatcher, journal } = setUp([{ afterMs: Infinity }], options);
      const controller = new AbortController();
      const call = client
        .post('/payments', { json: { amount: 5 }, signal: controller.signal })
        .catch((error: unknown) => error);
      await expect.poll(() => dispatcher.requests.length).toBe(1);
      const left = await readFile(path, 'utf8');
      controller.abort();
      await call;
      await journal.close();
      await writeFile(path, left);
      return dispatcher.requests[0]?.headers['idempotency-key'] ?? '';
    }

    test('finishes the call with the same key and body', async () => {
      const key = await crashed();
      const { client, dispatcher, journal } = setUp([
        { status: 503 },
        { status: 201, headers: { 'idempotency-replayed': 'true' } },
      ]);
      const [recovery, ...others] = await client.recover();
      expect(recovery).toMatchObject({
        status: 'completed',
        response: { status: 201, replayed: true, attempts: 2 },
      });
      expect(others).toEqual([]);
      for (const { headers, options } of dispatcher.requests) {
        expect(headers['idempotency-key']).toBe(key);
        expect(headers['content-type']).toBe('application/json');
        expect(String(options.body as Buffer)).toBe('{"amount":5}');
      }
      expect(await client.recover()).toEqual([]);
      await journal.close();
    });

    test('gives up what the server refuses for good', async () => {
      await crashed();
      const { client, journal } = setUp([{ status: 422 }]);
      expect(await client.recover()).toMatchObject([{ status: 'refused', error: { status: 422 } }]);
      await journal.close();
      expect(await readFile(path, 'utf8')).toContain('settle');
    });

    test('keeps what has no clear answer', async () => {
      await crashed();
      const first = setUp([{ errorCode: 'ECONNREFUSED' }]);
      expect(await first.client.recover()).toMatchObject([{ status: 'pending' }]);
      await first.journal.close();
      const second = setUp([{ status: 201 }]);
      expect(await second.client.recover()).toMatchObject([{ status: 'completed' }]);
      await second.journal.close();
    });

    test('never sends after the server may have forgotten the key', async () => {
      await crashed({ now: () => Date.now() - 86_400_000 });
      const { client, dispatcher, journal } = setUp([{ status: 201 }]);
      const [recovery] = await client.recover();
      expect(recovery?.status).toBe('expired');
      expect(dispatcher.requests).toEqual([]);
      await journal.close();
      // It stays until somebody has looked into it.
      const next = fileJournal(path);
      expect(await next.claim(origin, 1000)).toEqual(recovery?.entry);
      await next.close();
    });

    test('does not send what was altered', async () => {
      await crashed();
      const text = await readFile(path, 'utf8');
      const altered = Buffer.from('{"amount":50000}').toString('base64');
      await writeFile(path, text.replace(/"body":"[^"]*"/, `"body":"${altered}"`));
      const { client, dispatcher, journal } = setUp([{ status: 201 }]);
      expect(await client.recover()).toMatchObject([
        { status: 'pending', error: { code: 'ERR_CLIENT_JOURNAL' } },
      ]);
      expect(dispatcher.requests).toEqual([]);
      await journal.close();
    });

    test.each([
      [{ status: 201, headers: { 'content-type': 'application/json' }, body: '{' }],
      [{ status: 401 }],
      [{ status: 409 }],
    ])('what may have been done is not called refused: %o', async (reply) => {
      await crashed();
      const { client, journal } = setUp([reply]);
      expect(await client.recover()).toMatchObject([
        { status: 'pending', error: { status: reply.status } },
      ]);
      await journal.close();
    });

    /** A journal in which every lease is over at once. */
    function leaseless(keys: readonly string[], change: Partial<JournalStore> = {}): JournalStore {
      const fingerprint = createHash('sha256').update('POST\n/x\n').digest('hex');
      let claims = 0;
      return {
        begin: async () => {},
        settle: async () => {},
        claim: async () => {
          const key = keys[claims % keys.length] ?? '';
          claims += 1;
          return { ...entry(key), fingerprint, expiresAtMs: Date.now() + 60_000 };
        },
        close: async () => {},
        ...change,
      };
    }

    test('tries each entry once, however long it takes', async () => {
      const journal = leaseless(['a', 'b', 'c']);
      const { client } = setUp([{ errorCode: 'CERT_HAS_EXPIRED' }], { journal });
      const keys = (await client.recover()).map((each) => `${each.status} ${each.entry.key}`);
      expect(keys).toEqual(['pending a', 'pending b', 'pending c']);
    });

    test('an answer is reported although the journal cannot be told', async () => {
      const settle = (): Promise<void> => Promise.reject(new Error('down'));
      for (const [status, outcome] of [
        [201, 'completed'],
        [422, 'refused'],
      ] as const) {
        const journal = leaseless(['a'], { settle });
        const { client } = setUp([{ status }], { journal });
        expect(await client.recover()).toMatchObject([{ status: outcome }]);
      }
    });

    test('what was finished is reported although the journal fails then', async () => {
      const { claim } = leaseless(['a', 'b']);
      let claims = 0;
      const journal = leaseless([], {
        claim: async (...args) => {
          claims += 1;
          if (claims > 1) throw new Error('down');
          return claim(...args);
        },
      });
      const { client } = setUp([{ status: 201 }], { journal });
      expect(await client.recover()).toMatchObject([{ status: 'completed', entry: { key: 'a' } }]);
      await expect(client.recover()).rejects.toMatchObject({ code: 'ERR_CLIENT_JOURNAL' });
    });

    test('an entry that this client cannot send does not keep it from the others', async () => {
      const journal = leaseless(['two words', 'b']);
      const { client } = setUp([{ status: 201 }], { journal, idempotency: { format: 'raw' } });
      expect(await client.recover()).toMatchObject([
        { status: 'pending', error: { code: 'ERR_CLIENT_JOURNAL', cause: { name: 'TypeError' } } },
        { status: 'completed', entry: { key: 'b' } },
      ]);
    });

    test('of a client that has been closed claims nothing, and one that is closed meanwhile no more', async () => {
      const claims: string[] = [];
      const watched = leaseless(['a', 'b']);
      const claim: JournalStore['claim'] = async (...args) => {
        const claimed = await watched.claim(...args);
        claims.push(claimed?.key ?? '');
        return claimed;
      };
      const { client } = setUp([{ status: 201 }], { journal: { ...watched, claim } });
      const recovering = client.recover();
      const closed = client.close();
      expect((await recovering).length).toBeLessThanOrEqual(1);
      await closed;
      await expect(client.recover()).rejects.toMatchObject({ code: 'ERR_CLIENT_CLOSED' });
      expect(claims).toEqual(['a']);
    });

    test('needs a journal', async () => {
      const client = createClient({ origin, egress: new FakeDispatcher(() => ({})) });
      await expect(client.recover()).rejects.toMatchObject({ code: 'ERR_CLIENT_JOURNAL' });
    });
  });
});
