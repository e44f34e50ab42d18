import { randomUUID } from 'node:crypto';
import { exponentialBackoff, sleep } from '@countersign/retry';
import type { AccessToken } from './access-token.ts';
import { isResting } from './breaker.ts';
import { OAuthError } from './errors.ts';
import { reportFailure } from './events.ts';
import { type ExtraParameters, form, obtained, tokenGrant } from './grant.ts';
import type { OAuthClient } from './oauth-client.ts';
import {
  isUsable,
  type ObtainedToken,
  pollMs,
  reportShared,
  rest,
  shareable,
  sharedRefusal,
  token,
} from './shared-token.ts';
import type { Claim, TokenStore } from './store.ts';
import type { Variant } from './token-cache.ts';
import { neverSent } from './transport.ts';

export interface RotationOptions {
  readonly client: OAuthClient;
  readonly store: TokenStore;
  readonly initial: string;
  readonly audience: string | undefined;
  readonly parameters: ExtraParameters;
  readonly defaultExpiresInSeconds: number;
  readonly refreshLifetimeMs: number;
  readonly reuseGraceMs: number;
  /** Names the grant in the store: the same for all who hold it, whatever they ask for and however they prove it. */
  readonly key: string;
  /** Names a token of the grant: the same only where everything is. */
  readonly tokenKey: (variant: Variant) => Promise<string>;
}

/** What the store keeps of a grant. */
interface Grant {
  readonly refreshToken: string;
  /** The access tokens got with it, by name: those of other scopes and resources stay in use. */
  readonly tokens: Readonly<Record<string, ObtainedToken & { readonly generation: number }>>;
}

type Completion = Parameters<TokenStore['complete']>[1];

/** How much longer than its caller allows a rotation may take before another process may suspect that it was lost. */
const GRACE_MS = 15_000;
const MAX_TOKENS = 20;
const SAVE_ATTEMPTS = 20;
const saveBackoff = exponentialBackoff({ baseMs: 100, capMs: 10_000 });

/** Gets access tokens with a refresh token that works once. */
export function rotation(
  options: RotationOptions,
): (variant: Variant, generation: number) => Promise<AccessToken> {
  const { client, store, key, refreshLifetimeMs, reuseGraceMs } = options;
  // One rotation at a time, whatever the scopes: they share the refresh token.
  let turn: Promise<unknown> = Promise.resolve();
  // A claim whose answer was lost may hold: asking again under its name finds out.
  let owner: string = randomUUID();
  // A rotation that the server did and the store does not know of. Nothing else may happen before it does.
  let unsaved: Completion | undefined;
  // A refresh token that the server said is no good, as `invalid_grant` always means (RFC 6749 §5.2). This is about that
  // token and this source: a newer one in the store is used, and who proves another key asks for itself.
  let ended: { readonly refreshToken: string; readonly error: OAuthError } | undefined;
  // The newest refresh token that the store or the server has shown this source. Where the store has none, or an older
  // one, it has lost what replaced it.
  let seen: { readonly refreshToken: string; readonly generation: number } | undefined;
  // A refresh token whose answer was lost. The store should know of it too.
  let doubtful: string | undefined;

  const see = (refreshToken: string, generation: number): void => {
    if (!seen || generation >= seen.generation) seen = { refreshToken, generation };
  };

  const save = async (): Promise<void> => {
    const saving = unsaved;
    if (!saving) return;
    try {
      await store.complete(key, saving);
    } catch (cause) {
      throw new OAuthError('ERR_OAUTH_STORE', 'the store did not take the new refresh token', {
        cause,
      });
    }
    // What was got meanwhile is not saved yet.
    if (unsaved === saving) unsaved = undefined;
  };

  const saveLater = async (): Promise<void> => {
    for (let attempt = 1; attempt <= SAVE_ATTEMPTS && unsaved; attempt += 1) {
      await sleep(saveBackoff(attempt));
      await save().catch(() => {});
    }
  };

  const claim = async (generation: number): Promise<Claim> => {
    try {
      return await store.claim(key, {
        owner,
        leaseMs: client.timeoutMs + GRACE_MS,
        generation,
        journal: true,
        takeOverWithinMs: reuseGraceMs,
      });
    } catch (cause) {
      // It may hold all the same, and others would take that for a use.
      await store.release(key, { owner }).catch(() => {});
      if (cause instanceof OAuthError) throw cause;
      const message = 'the store is needed to use a refresh token, and cannot be reached';
      throw new OAuthError('ERR_OAUTH_STORE', message, { cause });
    }
  };

  /** Ends the claim after a failure, in the way that tells the next one the truth. */
  const giveUp = async (error: unknown, refreshToken: string): Promise<OAuthError> => {
    const startedAt = performance.now();
    const known = isUnused(error) && refreshToken !== doubtful;
    const refused = shareable(error);
    const release = { owner, keepIntent: !known, ...(refused ? { refused } : {}) };
    // Whatever the store makes of this: what may have been used is not claimed again under the same name.
    if (!known) {
      owner = randomUUID();
      doubtful = reuseGraceMs > 0 ? undefined : refreshToken;
    }
    await store
      .release(key, release)
      .then(() => {
        owner = randomUUID();
      })
      .catch((failure: unknown) => reportFailure(client, 'store', failure, startedAt));
    return known ? (error as OAuthError) : ambiguous('the answer was lost', error);
  };

  const use = async (
    variant: Variant,
    tokenKey: string,
    claimed: Extract<Claim, { status: 'claimed' }>,
    generation: number,
  ): Promise<AccessToken> => {
    let grant: Grant | undefined;
    let current = options.initial;
    let response: Awaited<ReturnType<typeof tokenGrant>>;
    const fields = () => {
      const body = form(variant, options.audience, options.parameters);
      body.set('refresh_token', current);
      return body;
    };
    try {
      grant = parseGrant(claimed.value);
      current = grant?.refreshToken ?? current;
      const older = !grant || claimed.generation < (seen?.generation ?? 0);
      const lost = seen ? older && seen.refreshToken !== current : older && claimed.generation > 0;
      // Where reuse is detected, sending what was replaced would revoke the grant for all.
      if (lost) throw ambiguous('the store has lost what replaced it');
      if (current === doubtful) throw ambiguous('the store has lost that it was used');
      if (grant) see(current, claimed.generation);
      if (ended?.refreshToken === current) throw ended.error;
      response = await tokenGrant(client, 'refresh_token', fields, {
        repeatable: isRepeatable,
        worksOnce: true,
      });
    } catch (error) {
      if (error instanceof OAuthError && error.error === 'invalid_grant') {
        ended = { refreshToken: current, error };
      }
      throw await giveUp(error, current);
    }
    const before = Math.max(generation, claimed.generation);
    const fresh = obtained(response, variant, options.defaultExpiresInSeconds);
    const next: Grant = {
      refreshToken: response.refreshToken ?? current,
      tokens: withToken(grant, tokenKey, { ...fresh, generation: before + 1 }, client.now()),
    };
    see(next.refreshToken, before + 1);
    const value = JSON.stringify(next);
    unsaved = { owner, value, ttlMs: refreshLifetimeMs, generation: before };
    owner = randomUUID();
    const startedAt = performance.now();
    await save().catch((error: unknown) => {
      reportFailure(client, 'store', error, startedAt);
      void saveLater();
    });
    return token(client, fresh, before + 1);
  };

  const renew = async (variant: Variant, generation: number): Promise<AccessToken> => {
    await save();
    const tokenKey = await options.tokenKey(variant);
    // Failing here is harmless; failing after the claim would look like a lost answer.
    await client.metadata();
    const startedAt = performance.now();
    let known = generation;
    for (let round = 0; ; round += 1) {
      const found = await claim(known);
      switch (found.status) {
        case 'current': {
          const grant = parseGrant(found.value);
          if (grant) see(grant.refreshToken, found.generation);
          const shared = grant?.tokens[tokenKey];
          if (shared && shared.generation > generation && isUsable(client, shared)) {
            reportShared(client, shared.generation, startedAt);
            return token(client, shared, shared.generation);
          }
          known = found.generation;
          break;
        }
        case 'claimed':
          try {
            return await use(variant, tokenKey, found, known);
          } catch (error) {
            await rest(error, client, startedAt, round);
            break;
          }
        case 'held':
          if (performance.now() - startedAt > client.timeoutMs) {
            throw new OAuthError('ERR_OAUTH_UNAVAILABLE', 'another process is using the grant', {
              retryAfterMs: found.remainingMs,
            });
          }
          await sleep(Math.min(found.remainingMs, pollMs(round)));
          break;
        case 'ambiguous':
          throw ambiguous(`since ${new Date(found.sinceMs).toISOString()}`);
        case 'refused':
          throw sharedRefusal(found);
      }
    }
  };

  return (variant, generation) => {
    const next = turn.then(() => renew(variant, generation));
    turn = next.catch(() => {});
    return next;
  };
}

/**
 * Whether a failure tells that the refresh token was not used: the request cannot have arrived, or the server said no.
 * A server error may come from something in between, after the server did its work; with `Retry-After` it is an answer.
 */
function isUnused(error: unknown): boolean {
  if (!(error instanceof OAuthError)) return false;
  const { code, status } = error;
  if (status === undefined) return neverSent(error) || UNSENT.has(code);
  if (status >= 500) return status === 503 && error.retryAfterMs !== undefined;
  // Any success, also one that makes no sense here, is no refusal.
  return status >= 300 && status !== 408;
}

/** Waiting with a claim in hand would keep others from using the grant. */
function isRepeatable(error: unknown): boolean {
  return isUnused(error) && !isResting(error);
}

const UNSENT: ReadonlySet<string> = new Set([
  'ERR_OAUTH_CREDENTIAL',
  'ERR_OAUTH_INSECURE_URL',
  'ERR_OAUTH_METADATA',
  // From before the request: the store has lost the grant.
  'ERR_OAUTH_ROTATION_AMBIGUOUS',
  'ERR_OAUTH_STORE',
  // Without a status: the breaker is open.
  'ERR_OAUTH_UNAVAILABLE',
]);

function ambiguous(what: string, cause?: unknown): OAuthError {
  const message = `a refresh token was used and what became of it is not known: ${what}`;
  return new OAuthError('ERR_OAUTH_ROTATION_AMBIGUOUS', message, cause ? { cause } : {});
}

function parseGrant(value: string | undefined): Grant | undefined {
  if (value === undefined) return undefined;
  try {
    return JSON.parse(value) as Grant;
  } catch {
    // The parser's message quotes the text, and the text is a refresh token.
    throw new OAuthError('ERR_OAUTH_STORE', 'what the store has is not a grant');
  }
}

function withToken(
  grant: Grant | undefined,
  tokenKey: string,
  fresh: Grant['tokens'][string],
  nowMs: number,
): Grant['tokens'] {
  const others = Object.entries(grant?.tokens ?? {})
    .filter(([, { expiresAtMs }]) => expiresAtMs > nowMs)
    .slice(1 - MAX_TOKENS);
  return { ...Object.fromEntries(others), [tokenKey]: fresh };
}
