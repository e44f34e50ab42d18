import { describe, expect, test } from 'vitest';
import { isDemotion, scriptError, serverError } from '../src/refusal.ts';

const readOnly = "READONLY You can't write against a read only replica.";

describe('an error that Redis answers instead of running a script', () => {
  test.each([
    'LOADING Redis is loading the dataset in memory',
    'BUSY Valkey is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.',
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    'CLUSTERDOWN Hash slot not served',
    'TRYAGAIN Multiple keys request during rehashing of slot',
    'MOVED 3999 127.0.0.1:6381',
    readOnly,
  ])('%s: nothing has run', (message) => {
    expect(serverError(new Error(message))).toMatchObject({
      code: 'ERR_STORE_UNAVAILABLE',
      outcome: 'not-run',
      cause: { message },
    });
  });

  test.each([
    "NOPERM this user has no permissions to run the 'evalsha' command",
    'ERR Error compiling script (new function): user_script:1: unexpected symbol',
    'NOSCRIPT of the script itself',
    'BUSYKEY Target key name already exists.',
  ])('%s: nobody knows', (message) => {
    expect(serverError(new Error(message))).toMatchObject({
      code: 'ERR_STORE_FAILED',
      outcome: 'unknown',
    });
  });
});

describe('an error that comes out of a script', () => {
  test.each([
    ['Redis 7', readOnly],
    ['Redis 6.2, where it says in which line', `@user_script: 3: -${readOnly}  `],
    ['a full disk', 'MISCONF Errors writing to the AOF file: No space left on device'],
    [
      'a failed snapshot',
      'MISCONF Redis is configured to save RDB snapshots, but it is currently unable to persist on disk.',
    ],
    ['too few replicas', 'NOREPLICAS Not enough good replicas to write.'],
  ])('at its first write, by %s: nothing has run', (_, message) => {
    expect(scriptError(new Error(message))).toMatchObject({
      code: 'ERR_STORE_UNAVAILABLE',
      outcome: 'not-run',
    });
  });

  test.each([
    'READONLY of its own',
    'MISCONF',
    'NOREPLICAS',
    'LOADING Redis is loading the dataset',
  ])('%s: nobody knows', (message) => {
    expect(scriptError(new Error(message))).toMatchObject({
      code: 'ERR_STORE_FAILED',
      outcome: 'unknown',
    });
  });
});

test('a server that says it is a replica was demoted', () => {
  expect(isDemotion(new Error(readOnly))).toBe(true);
  expect(isDemotion(new Error('READONLY of its own'))).toBe(false);
  expect(isDemotion(readOnly)).toBe(false);
});
