import { spawnSync } from 'node:child_process';
import { afterEach, expect, test, vi } from 'vitest';
import { launch } from '../src/process.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

test('a service that is killed fails what it was asked, and it is said how it ended', async () => {
  const said = vi.spyOn(console, 'error').mockReturnValue(undefined);
  const attacker = await launch('attacker', {});
  process.kill(attacker.pid, 'SIGSTOP');
  const answer = attacker.ask('attack');
  process.kill(attacker.pid, 'SIGKILL');
  await expect(answer).rejects.toThrow('attacker: ended (SIGKILL)');
  await expect(attacker.ask('attack')).rejects.toThrow('attacker: ended (SIGKILL)');
  expect(said).toHaveBeenCalledWith('attacker ended (SIGKILL)');
});

test('a service that is stopped ends, and nothing is said', async () => {
  const said = vi.spyOn(console, 'error').mockReturnValue(undefined);
  const attacker = await launch('attacker', {});
  await attacker.stop();
  await expect(attacker.ask('attack')).rejects.toThrow('attacker: ended (0)');
  expect(said).not.toHaveBeenCalled();
});

test('a service that cannot start says why and is gone', async () => {
  await expect(launch('checkout', { client: { privateKeyPem: 'none' } })).rejects.toThrow(
    /^checkout: /,
  );
  const { stdout } = spawnSync('ps', ['-o', 'args=', '--ppid', String(process.pid)]);
  expect(String(stdout)).not.toContain('services/checkout.ts');
});
