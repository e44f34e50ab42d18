import { createServer } from 'node:http';
import type { AddressInfo, LookupFunction } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { egressAgent } from '../src/index.ts';

// Every way to write an address that leads inside. `$PORT` is a server on this machine that must never hear of it.
const LITERALS: Readonly<Record<string, readonly string[]>> = {
  'loopback, IPv4': [
    '127.0.0.1',
    '127.0.0.2',
    '127.1',
    '127.0.1',
    '127.255.255.254',
    '2130706433',
    '2130706433.',
    '0x7f000001',
    '0X7F000001',
    '0x7f.0x0.0x0.0x1',
    '0x7f.1',
    '0x7f.0.1',
    '017700000001',
    '0177.0.0.1',
    '0177.0.0.01',
    '0177.1',
    '127.0.0.0x1',
    '127.0.0.01',
    '127.0.0.1.',
    '0000177.0.0.1',
    '0x0000007f.0.0.1',
    '%31%32%37.0.0.1',
    '127%2e0%2e0%2e1',
    '127。0。0。1',
    '127．0．0．1',
    '１２７.０.０.１',
    '①②⑦.⓪.⓪.①',
    '0x7f｡1',
  ],
  'this host and "any"': [
    '0.0.0.0',
    '0',
    '0.0',
    '0x0',
    '00',
    '0.1.2.3',
    '[::]',
    '[0:0:0:0:0:0:0:0]',
  ],
  'private, IPv4': [
    '10.0.0.1',
    '10.1',
    '0xa000001',
    '167772161',
    '012.0.0.1',
    '172.16.0.1',
    '172.31.255.255',
    '0xac.0x10.0.1',
    '2886729729',
    '192.168.0.1',
    '192.168.1',
    '0xc0a80001',
    '3232235521',
    '0300.0250.0.1',
  ],
  'link-local and cloud metadata': [
    '169.254.169.254',
    '0xa9fea9fe',
    '0xA9.0xFE.0xA9.0xFE',
    '2852039166',
    '0251.0376.0251.0376',
    '025177524776',
    '169.254.43518',
    '169.16689662',
    '169.254.169.254.',
    '169.254.170.2',
    '168.63.129.16',
    '0xa83f8110',
    '100.100.100.200',
    '192.0.0.192',
    '[fd00:ec2::254]',
    '[fd20:ce::254]',
    '[fe80::a9fe:a9fe]',
    '[::ffff:169.254.169.254]',
    '[::ffff:a9fe:a9fe]',
    '[64:ff9b::169.254.169.254]',
    '[2002:a9fe:a9fe::1]',
  ],
  'shared, reserved, documentation, multicast': [
    '100.64.0.1',
    '100.127.255.255',
    '192.0.2.1',
    '192.88.99.1',
    '198.18.0.1',
    '198.19.255.255',
    '198.51.100.1',
    '203.0.113.1',
    '224.0.0.1',
    '239.255.255.250',
    '240.0.0.1',
    '255.255.255.255',
    '0xffffffff',
  ],
  'loopback, IPv6': [
    '[::1]',
    '[0:0:0:0:0:0:0:1]',
    '[0000:0000:0000:0000:0000:0000:0000:0001]',
    '[::0:1]',
    '[0::1]',
    '[::0.0.0.1]',
  ],
  'IPv4 within IPv6': [
    '[::127.0.0.1]',
    '[::7f00:1]',
    '[::ffff:127.0.0.1]',
    '[::ffff:7f00:1]',
    '[::FFFF:127.0.0.1]',
    '[0:0:0:0:0:ffff:127.0.0.1]',
    '[::ffff:10.0.0.1]',
    '[::ffff:8.8.8.8]',
    '[::ffff:0:127.0.0.1]',
    '[::ffff:0:7f00:1]',
    '[64:ff9b::127.0.0.1]',
    '[64:ff9b::7f00:1]',
    '[64:ff9b:1::127.0.0.1]',
    '[64:ff9b:1:fffe::10.0.0.1]',
    '[2002:7f00:1::]',
    '[2002:a00:1::1]',
    '[2002:c0a8:1::1]',
    '[2001:0:4136:e378:8000:63bf:80ff:fffe]',
    '[2001::1]',
    '[2606:2800:220:1:0:5efe:127.0.0.1]',
    '[2606:2800:220:1:200:5efe:10.0.0.1]',
  ],
  'special, IPv6': [
    '[fe80::1]',
    '[febf::1]',
    '[fec0::1]',
    '[fc00::1]',
    '[fd00::1]',
    '[fdff:ffff::1]',
    '[ff02::1]',
    '[ff0e::1]',
    '[100::1]',
    '[2001:db8::1]',
    '[2001:2::1]',
    '[2001:10::1]',
    '[2001:20::1]',
    '[3fff::1]',
    '[4000::1]',
    '[5f00::1]',
    '[8000::1]',
    '[e000::1]',
  ],
  'with something around it': [
    'user@127.0.0.1',
    'api.example.com@127.0.0.1',
    'api.example.com:443@127.0.0.1',
    '127.0.0.1\t',
    '127.0.\n0.1',
    '\\127.0.0.1',
    '/127.0.0.1',
    '127.0.0.1:$PORT/?x=api.example.com',
  ],
};

// Names that look harmless and are not; what they resolve to beside them.
const NAMES: readonly (readonly [name: string, ...addresses: string[]])[] = [
  ['localhost', '127.0.0.1'],
  ['LOCALHOST', '127.0.0.1'],
  ['localhost.', '127.0.0.1'],
  ['ⓛⓞⓒⓐⓛⓗⓞⓢⓣ', '127.0.0.1'],
  ['localhost.localdomain', '127.0.0.1'],
  ['ip6-localhost', '::1'],
  ['foo.localhost', '127.0.0.1'],
  ['localtest.me', '127.0.0.1'],
  ['127.0.0.1.nip.io', '127.0.0.1'],
  ['7f000001.nip.io', '127.0.0.1'],
  ['metadata.google.internal', '169.254.169.254'],
  ['metadata', '169.254.169.254'],
  ['instance-data.ec2.internal', '169.254.169.254'],
  ['internal.example.com', '10.1.2.3'],
  ['mixed.example.com', '93.184.216.34', '10.1.2.3'],
  ['mixed6.example.com', '93.184.216.34', '::1'],
  ['last.example.com', '93.184.216.34', '93.184.216.35', '93.184.216.36', '169.254.169.254'],
  ['mapped.example.com', '::ffff:127.0.0.1'],
  ['compatible.example.com', '::127.0.0.1'],
  ['nat64.example.com', '64:ff9b::a00:1'],
  ['sixtofour.example.com', '2002:7f00:1::1'],
  ['azure.example.com', '168.63.129.16'],
  ['zone.example.com', 'fe80::1%lo'],
  ['octal.example.com', '0177.0.0.1'],
  ['short.example.com', '127.1'],
];

const RESOLVED = new Map(
  NAMES.map(([name, ...addresses]) => [new URL(`http://${name}`).hostname, addresses]),
);

const lookup: LookupFunction = (hostname, _options, callback) => {
  const addresses = RESOLVED.get(hostname);
  if (!addresses) throw new Error(`${hostname} was not to be looked up`);
  callback(
    null,
    addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 })),
  );
};

let port = 0;
let connections = 0;
const server = createServer((_request, response) => response.end('inside'));
server.on('connection', () => {
  connections += 1;
});
beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, '::', resolve));
  port = (server.address() as AddressInfo).port;
});
afterAll(() => {
  expect(connections).toBe(0);
  server.close();
  server.closeAllConnections();
});

// Plain http is allowed here, so that nothing is refused for its scheme that should be for its address.
const agent = egressAgent({ httpsOnly: false, lookup });

describe('the ways inside', () => {
  test.each(
    Object.entries(LITERALS).flatMap(([group, hosts]) => hosts.map((host) => [group, host])),
  )('%s: %s', async (_group, host) => {
    const text = `http://${host.includes('$PORT') ? host.replace('$PORT', String(port)) : `${host}:${port}`}/`;
    // The URL parser is the first check: what it does not read is no URL, what it reads it also normalises.
    if (!URL.canParse(text)) return;
    await expect(
      agent.request({ origin: new URL(text).origin, path: '/', method: 'GET' }),
    ).rejects.toMatchObject({ code: 'ERR_EGRESS_DENIED' });
  });

  test.each(NAMES)('a name: %s → %s', async (name) => {
    await expect(
      agent.request({ origin: `http://${name}:${port}`, path: '/', method: 'GET' }),
    ).rejects.toMatchObject({ code: 'ERR_EGRESS_DENIED' });
  });

  test('are more than a hundred', () => {
    const literals = Object.values(LITERALS).flat();
    const read = literals.filter((host) => URL.canParse(`http://${host.replace(':$PORT', '')}/`));
    expect(read.length).toBeGreaterThan(120);
    expect(new Set(literals).size).toBe(literals.length);
  });

  test('lead somewhere: with an entry, the same server answers', async () => {
    const open = egressAgent({ httpsOnly: false, allow: ['127.0.0.1'] });
    const { body } = await open.request({
      origin: `http://0x7f.1:${port}`,
      path: '/',
      method: 'GET',
    });
    expect(await body.text()).toBe('inside');
    await open.close();
    connections -= 1;
  });
});
