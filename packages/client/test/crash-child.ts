import { Cluster, Redis } from 'ioredis';
import { createClient, type JournalStore } from '../src/index.ts';
import { fileJournal } from '../src/journal.ts';
import { redisJournal } from '../src/redis.ts';

// The process that is killed between sending and the answer. Arguments: the origin, where the journal is (a path, or the
// nodes of a Redis as JSON), and how many calls to make at the same time.
const [origin = '', where = '', calls = '1'] = process.argv.slice(2);

function openJournal(): JournalStore {
  if (!where.startsWith('[')) return fileJournal(where);
  const nodes = JSON.parse(where) as { host: string; port: number }[];
  const [first] = nodes;
  return redisJournal(nodes.length === 1 && first ? new Redis(first) : new Cluster(nodes));
}

const client = createClient({
  origin,
  egress: { allow: ['http://127.0.0.1:*'] },
  journal: openJournal(),
  // Until then the entries are this process's, for a journal that many processes share.
  deadlineMs: 3000,
});
await Promise.all(
  Array.from({ length: Number(calls) }, (_, index) =>
    client.post(`/payments?n=${index}`, { json: { amount: 5, index } }),
  ),
);
