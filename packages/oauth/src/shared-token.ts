import { createHash, randomUUID } from 'node:crypto';
import { sleep } from '@countersign/retry';
import { AccessToken, type TokenType } from './access-token.ts';
import { isResting } from './breaker.ts';
import { OAuthError } from './errors.ts';
import { cacheHits, reportFailure } from './events.ts';
import type { Call, OAuthClient } from './oauth-client.ts';
import type { Claim, TokenStore } from './store.ts';
import { isLasting, LONGEST_PAUSE_MS, REFUSAL_MS } from './token-cache.ts';

/** A token as the server gave it, before it has a generation. */
export interface ObtainedToken {
  readonly value: string;
  readonly type: TokenType;
  readonly expiresAtMs: number;
  readonly scope: string;
}

/** Renewed while its holder is at work, however long that takes; a process that dies holds up the rest no longer. */
const LEASE_MS = 10_000;

/** Asks the server for a token. An attempt is repeated after the failures that `repeatable` accepts. */
export type Obtain = (repeatable?: Call['repeatable']) => Promise<ObtainedToken>;

/**
 * Gets a token newer than `generation` for all processes that share the store, with one request between them. What the
 * store cannot do is done without it: a token is worth more than a saved request.
 */
export async function renewShared(
  client: OAuthClient,
  store: TokenStore | undefined,
  key: string,
  generation: number,
  obtain: Obtain,
): Promise<AccessToken> {
  const alone = async () => token(client, await obtain(), generation + 1);
  if (!store) return alone();
  const owner = randomUUID();
  const startedAt = performance.now();
  const bypass = async (error: unknown) => {
    reportFailure(client, 'store', error, startedAt);
    const fresh = await obtain();
    // The claim may have been granted although its answer was lost: then others wait for this token.
    void offer(client, store, key, owner, generation, fresh);
    return token(client, fresh, generation + 1);
  };
  let known = generation;
  for (let round = 0; ; round += 1) {
    let claim: Claim;
    const askedAtMs = client.now();
    try {
      claim = await store.claim(key, { owner, leaseMs: LEASE_MS, generation: known });
    } catch (error) {
      return bypass(error);
    }
    switch (claim.status) {
      case 'current': {
        // What the caller knows already is no answer: such a store would give it for ever.
        if (claim.generation <= known) return alone();
        known = claim.generation;
        const shared = revive(client, claim, askedAtMs, startedAt);
        if (shared) return shared;
        break;
      }
      case 'claimed':
        try {
          return await fill(client, store, key, owner, Math.max(known, claim.generation), obtain);
        } catch (error) {
          // Somebody else may get what this process does not ask for now.
          await rest(error, client, startedAt, round);
          break;
        }
      case 'refused':
        throw sharedRefusal(claim);
      case 'held':
        // Those before failed one after another. All who wait asking at once would not help.
        if (performance.now() - startedAt > client.timeoutMs) throw tooLate(client);
        await sleep(Math.min(claim.remainingMs, pollMs(round)));
        break;
      case 'ambiguous':
        return alone();
    }
  }
}

async function fill(
  client: OAuthClient,
  store: TokenStore,
  key: string,
  owner: string,
  generation: number,
  obtain: Obtain,
): Promise<AccessToken> {
  const startedAt = performance.now();
  let stayed: Promise<unknown> | undefined;
  const stay = setInterval(() => {
    stayed = store.claim(key, { owner, leaseMs: LEASE_MS, generation }).catch(() => {});
  }, LEASE_MS / 3);
  stay.unref();
  let obtained: ObtainedToken;
  try {
    // Waiting with a claim in hand would keep others from what they could do at once.
    obtained = await obtain((error) => !isResting(error)).finally(() => clearInterval(stay));
  } catch (error) {
    // Arriving after the release, it would claim for nobody.
    await stayed;
    const refused = shareable(error);
    await store
      .release(key, { owner, ...(refused ? { refused } : {}) })
      .catch((failure: unknown) => reportFailure(client, 'store', failure, startedAt));
    throw error;
  }
  const stored = await offer(client, store, key, owner, generation, obtained);
  return token(client, obtained, stored ?? generation + 1);
}

/** Never rejects: a token that cannot be shared is used all the same. */
async function offer(
  client: OAuthClient,
  store: TokenStore,
  key: string,
  owner: string,
  generation: number,
  obtained: ObtainedToken,
): Promise<number | undefined> {
  const startedAt = performance.now();
  try {
    const value = JSON.stringify(obtained);
    const ttlMs = obtained.expiresAtMs - client.now();
    return await store.complete(key, { owner, value, ttlMs, generation });
  } catch (error) {
    reportFailure(client, 'store', error, startedAt);
    return undefined;
  }
}

/** Waits a moment after a failure that another look at the store may make up for; throws any other. */
export async function rest(
  error: unknown,
  { timeoutMs, maxRetries }: OAuthClient,
  startedAt: number,
  round: number,
): Promise<void> {
  if (!isResting(error) || maxRetries === 0) throw error;
  if (performance.now() - startedAt + error.retryAfterMs >= timeoutMs) throw error;
  await sleep(Math.min(error.retryAfterMs, pollMs(round)));
}

/** Stands for a server that asked to be left alone, where a refusal has the server's `error`. */
const LEFT_ALONE = 'retry_after';

/** What one process was told that all of them should know. */
export function shareable(error: unknown): { reason: string; ttlMs: number } | undefined {
  if (isLasting(error)) return { reason: error.error, ttlMs: REFUSAL_MS };
  // Without a status it is this process that gave up. Others may have a better connection.
  if (!(error instanceof OAuthError) || error.status === undefined) return undefined;
  const { retryAfterMs } = error;
  if (!retryAfterMs) return undefined;
  return { reason: LEFT_ALONE, ttlMs: Math.min(retryAfterMs, LONGEST_PAUSE_MS) };
}

/** The error of the process that asked, for those that did not. */
export function sharedRefusal(claim: Extract<Claim, { status: 'refused' }>): OAuthError {
  const { reason, remainingMs: retryAfterMs } = claim;
  if (reason === LEFT_ALONE) {
    const message = 'the authorization server asked another process to come back later';
    return new OAuthError('ERR_OAUTH_UNAVAILABLE', message, { retryAfterMs });
  }
  const message = `the authorization server refused: ${reason} (another process asked)`;
  return new OAuthError('ERR_OAUTH_REFUSED', message, { error: reason });
}

function tooLate({ timeoutMs }: OAuthClient): OAuthError {
  return new OAuthError('ERR_OAUTH_TIMEOUT', `no other process got a token within ${timeoutMs} ms`);
}

/** A stored token, unless it is not worth using any more. */
function revive(
  client: OAuthClient,
  { value, generation, remainingMs }: Extract<Claim, { status: 'current' }>,
  askedAtMs: number,
  startedAt: number,
): AccessToken | undefined {
  const stored = parseToken(value);
  if (!stored) return undefined;
  // The clock of whoever got it may be ahead of this one.
  const expiresAtMs = Math.min(stored.expiresAtMs, askedAtMs + remainingMs);
  if (!isUsable(client, { expiresAtMs })) return undefined;
  reportShared(client, generation, startedAt);
  return token(client, { ...stored, expiresAtMs }, generation);
}

function parseToken(value: string): ObtainedToken | undefined {
  try {
    return JSON.parse(value) as ObtainedToken;
  } catch {
    return undefined;
  }
}

export function reportShared(client: OAuthClient, generation: number, startedAt: number): void {
  if (!cacheHits.hasSubscribers) return;
  const durationMs = performance.now() - startedAt;
  const { issuer, clientId } = client;
  cacheHits.publish({ issuer, clientId, from: 'store', generation, durationMs });
}

const SHORTEST_USE_MS = 1000;

/** Whether a stored token would survive the request it is for. */
export function isUsable(
  client: OAuthClient,
  { expiresAtMs }: Pick<ObtainedToken, 'expiresAtMs'>,
): boolean {
  return expiresAtMs - client.now() >= SHORTEST_USE_MS;
}

export function token(
  client: OAuthClient,
  obtained: ObtainedToken,
  generation: number,
): AccessToken {
  const { dpop } = client;
  return new AccessToken({ ...obtained, generation, ...(dpop ? { dpop } : {}) });
}

/** Soon at first, for the usual quick answer; then at leisure. Spread, so that waiters do not ask in step. */
export function pollMs(round: number): number {
  return Math.min(250, 20 * 1.5 ** round) * (0.75 + Math.random() / 2);
}

/** Everything that makes one token different from another, so that no caller is given somebody else's. */
export function cacheKey(parts: Readonly<Record<string, unknown>>): string {
  const ordered = Object.entries(parts).sort(([a], [b]) => (a < b ? -1 : 1));
  return createHash('sha256').update(JSON.stringify(ordered)).digest('base64url');
}
