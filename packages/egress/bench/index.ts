import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { compare, expectAtLeast, ratio, report } from '@countersign/testkit/bench';
import { Agent, type Dispatcher } from 'undici';
import { assertAllowed, egressAgent } from '../src/index.ts';

const server = fork(fileURLToPath(new URL('./server.ts', import.meta.url)));
const [port] = (await once(server, 'message')) as [number];
const origin = `http://127.0.0.1:${port}`;
const bare = new Agent();
const guarded = egressAgent({ allow: ['http://127.0.0.1:*'] });

const twenty = (agent: Dispatcher) => () =>
  Promise.all(
    Array.from({ length: 20 }, async () => {
      const { body } = await agent.request({ origin, path: '/', method: 'GET' });
      return body.text();
    }),
  );

const requests = await compare({ 'undici Agent': twenty(bare), egressAgent: twenty(guarded) }, 9);
report('20 requests at a time over kept connections', requests);
expectAtLeast(
  'requests/s against a bare Agent',
  ratio(requests, 'egressAgent', 'undici Agent'),
  0.9,
);

const url = 'https://api.example.com/v1/payments';
report(
  'one URL',
  await compare({ 'new URL': () => new URL(url), assertAllowed: () => assertAllowed(url) }, 3),
);

await bare.close();
await guarded.close();
server.disconnect();
