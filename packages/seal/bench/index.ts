import { randomBytes } from 'node:crypto';
import { compare, expectAtLeast, ratio, report } from '@countersign/testkit/bench';
import { CompactEncrypt, compactDecrypt } from 'jose';
import { createSeal } from '../src/index.ts';

const key = randomBytes(32);
const seal = createSeal([key]);
const header = { alg: 'dir', enc: 'A256GCM' };
const encrypt = (plain: Uint8Array): Promise<string> =>
  new CompactEncrypt(plain).setProtectedHeader(header).encrypt(key);

for (const bytes of [200, 20_000]) {
  const plain = randomBytes(bytes);
  const sealed = seal.seal(plain, 'record');
  const token = await encrypt(plain);
  const measured = await compare({
    seal: () => seal.seal(plain, 'record'),
    'jose, encrypt': () => encrypt(plain),
    open: () => seal.open(sealed, 'record'),
    'jose, decrypt': () => compactDecrypt(token, key),
  });
  report(`${bytes.toLocaleString('en')} bytes, AES-256-GCM`, measured);
  expectAtLeast('seal against jose', ratio(measured, 'seal', 'jose, encrypt'), 2);
  expectAtLeast('open against jose', ratio(measured, 'open', 'jose, decrypt'), 2);
}
