import { createClient } from '../src/index.ts';
import { fileJournal } from '../src/journal.ts';

// The process that is killed between sending and the answer: arguments are the origin and the journal's path.
const [origin = '', path = ''] = process.argv.slice(2);
const client = createClient({
  origin,
  egress: { allow: ['http://127.0.0.1:*'] },
  journal: fileJournal(path),
});
await client.post('/payments', { json: { amount: 5 } });
