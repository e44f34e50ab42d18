import type { IncomingHttpHeaders } from 'node:http';
import { type Duplex, Stream } from 'node:stream';
import { assertKnown, type OptionNames } from '@countersign/options';
import { type RetryBudget, retryBudget } from '@countersign/retry';
import type { Dispatcher } from 'undici';
import type { AccessToken } from './access-token.ts';
import { parseChallenges } from './challenge.ts';
import { OAuthError } from './errors.ts';
import { type ResourceRetryEvent, retries } from './events.ts';
import { hasHeader, headerList } from './headers.ts';
import { RelayController } from './relay-controller.ts';
import type { TokenRequest, TokenSource } from './source.ts';
import { variantOf } from './token-cache.ts';

export interface AccessTokenOptions extends Pick<TokenRequest, 'scope' | 'resource'> {
  /** Where the token may go. Default: the origin of the first request without an `Authorization` of its own, and no other. */
  readonly origins?: readonly string[];
}

const names: OptionNames<AccessTokenOptions> = { origins: true, scope: true, resource: true };

type Dispatch = Dispatcher['dispatch'];

/** What an interceptor knows of one origin. */
interface Target {
  /** The resource server's DPoP nonce (RFC 9449 §9). */
  nonce?: string;
  /** The newest generation that was refused there and is being, or has been, replaced. */
  refusedGeneration: number;
  /** Renewals that refusals may cause: when a server refuses every token, new ones are no help. */
  readonly budget: RetryBudget;
}

interface Shared {
  readonly source: TokenSource;
  /** Nothing where the source's own are meant: that is the case it answers fastest. */
  readonly request: Pick<TokenRequest, 'scope' | 'resource'> | undefined;
}

type Remedy = ResourceRetryEvent['remedy'];

/** A refusal is read, so that its connection can be used again, but not without end. */
const MAX_DISCARDED_BYTES = 65_536;
/** Remembered for dispatchers to come; one that has its target keeps it. */
const MAX_ORIGINS = 1000;

/**
 * An undici interceptor that puts an access token on every request to its origins, and on no other. A request that is
 * refused with `invalid_token` is repeated once with a renewed token, and one that lacks the server's DPoP nonce once
 * with that, if its body can be sent twice (not: streams and iterables). A request whose token cannot be had fails with the reason. A request that has an `Authorization` field of
 * its own goes as it is.
 * @throws TypeError when an option is not what it must be.
 */
export function accessToken(
  source: TokenSource,
  options: AccessTokenOptions = {},
): Dispatcher.DispatcherComposeInterceptor {
  if (typeof source?.getToken !== 'function') {
    throw new TypeError('source must have getToken(), like what clientCredentials() returns');
  }
  assertKnown(options, names);
  const { origins, ...request } = options;
  // As the source will read them, while there is somebody to tell.
  variantOf(request.scope, request.resource);
  const shared = { source, request: Object.keys(request).length > 0 ? request : undefined };
  const areUrls = Array.isArray(origins) && origins.length > 0 && origins.every(isHttpUrl);
  if (origins !== undefined && !areUrls) {
    throw new TypeError('origins must be http or https URLs, at least one');
  }
  // For all dispatchers: composing anew gives no new budget.
  const known = new Map<string, Target>();
  const targetOf = (origin: string): Target => {
    const target = known.get(origin) ?? newTarget();
    known.delete(origin);
    known.set(origin, target);
    const oldest = known.size > MAX_ORIGINS ? known.keys().next().value : undefined;
    if (oldest !== undefined) known.delete(oldest);
    return target;
  };
  const named = origins?.map((text) => new URL(text).origin);
  return (dispatch) => {
    // For each dispatcher: what one of them was first used for says nothing of another.
    const targets = new Map(named?.map((origin) => [origin, targetOf(origin)]));
    return (opts, handler) => {
      const headers = headerList(opts.headers);
      // Before it could choose the origin: it says nothing of where the token may go.
      if (hasHeader(headers, 'authorization')) return dispatch(opts, handler);
      // As it is written nearly always. Reading a URL would cost more than everything else here.
      const written = opts.path.startsWith('/') ? (opts.origin as string) : '';
      const origin = targets.has(written) ? written : originOf(opts);
      if (targets.size === 0) targets.set(origin, targetOf(origin));
      const target = targets.get(origin);
      if (!target) return dispatch(opts, handler);
      new AuthorizedRequest(dispatch, opts, headers, handler, shared, target, origin).start();
      return true;
    };
  };
}

/** One request and its repetitions, one for each remedy. Its token is its own: nothing here is shared between requests. */
class AuthorizedRequest implements Dispatcher.DispatchHandler {
  readonly #dispatch: Dispatch;
  readonly #options: Dispatcher.DispatchOptions;
  readonly #headers: readonly (string | string[])[];
  readonly #handler: Dispatcher.DispatchHandler;
  readonly #shared: Shared;
  readonly #target: Target;
  readonly #origin: string;
  readonly #controller = new RelayController();
  readonly #startedAt = retries.hasSubscribers ? performance.now() : 0;
  #token: AccessToken | undefined;
  /** What the last proof was made with: others may have learnt a newer one since. */
  #nonce: string | undefined;
  #started = false;
  #renewed = false;
  #nonceRenewed = false;
  #discarding: Remedy | undefined;
  #discardedBytes = 0;
  #unwatch: (() => void) | undefined;

  constructor(
    dispatch: Dispatch,
    options: Dispatcher.DispatchOptions,
    headers: readonly (string | string[])[],
    handler: Dispatcher.DispatchHandler,
    shared: Shared,
    target: Target,
    origin: string,
  ) {
    this.#dispatch = dispatch;
    this.#options = options;
    this.#headers = headers;
    this.#handler = handler;
    this.#shared = shared;
    this.#target = target;
    this.#origin = origin;
  }

  start(): void {
    const { body } = this.#options;
    if (body instanceof Stream) this.#watch(body);
    this.#obtain();
  }

  /** Nobody else listens to a body before it is sent, and an error that nobody listens to ends the process. */
  #watch(body: Stream): void {
    const failed = (error: Error): void => this.#controller.abort(error);
    body.on('error', failed);
    this.#unwatch = () => body.off('error', failed);
  }

  #obtain(renewal?: Pick<TokenRequest, 'forceRenewal'>): void {
    const { source, request } = this.#shared;
    const signal = (this.#options as { signal?: unknown }).signal;
    const wait = signal instanceof AbortSignal ? { signal } : undefined;
    const wanted = renewal || wait ? { ...request, ...renewal, ...wait } : request;
    try {
      const token = source.getToken(wanted);
      token.then((usable) => this.#send(usable)).catch((error: unknown) => this.#fail(error));
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Without a promise where none is needed: for a Bearer token nothing is computed. */
  #send(token: AccessToken): undefined | Promise<void> {
    if (!isToken(token)) throw new TypeError('the source gave something that is no AccessToken');
    if (this.#token && token.generation <= this.#token.generation) this.#unreplaced();
    this.#token = token;
    if (token.type === 'DPoP') return this.#sendProved(token);
    this.#sendWith(token);
    return undefined;
  }

  async #sendProved(token: AccessToken): Promise<void> {
    const { method } = this.#options;
    this.#nonce = this.#target.nonce;
    const proof = await token.proof({ method, url: this.#url(), nonce: this.#nonce });
    if (proof === undefined) throw new OAuthError('ERR_OAUTH_DPOP', 'the token has no DPoP key');
    this.#sendWith(token, 'dpop', proof);
  }

  #sendWith({ type, value }: AccessToken, ...more: readonly string[]): void {
    const headers = [...this.#headers, 'authorization', `${type} ${value}`, ...more];
    this.#unwatch?.();
    if (this.#controller.abortedByCaller) throw this.#controller.reason;
    this.#dispatch({ ...this.#options, headers: headers as string[] }, this);
  }

  #url(): string {
    const path = this.#options.path.replace(ABSOLUTE, '');
    return this.#origin + (path.split(/[?#]/, 1)[0] ?? '');
  }

  #fail(error: unknown): void {
    this.#unwatch?.();
    if (this.#renewed) this.#unreplaced();
    this.#handler.onResponseError?.(this.#controller, error as Error);
  }

  onRequestStart(controller: Dispatcher.DispatchController, context: unknown): void {
    this.#controller.follow(controller);
    if (this.#started) return;
    this.#started = true;
    this.#handler.onRequestStart?.(this.#controller, context);
  }

  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: Readonly<Record<string, string | string[] | undefined>>,
    statusMessage?: string,
  ): void {
    const nonce = headers['dpop-nonce'];
    if (typeof nonce === 'string') this.#target.nonce = nonce;
    if (status === 401 && isReplayable(this.#options.body)) {
      this.#discarding = this.#remedy(headers['www-authenticate']);
      if (this.#discarding) return;
    }
    this.#handler.onResponseStart?.(this.#controller, status, headers, statusMessage);
  }

  /** What would make the refused request succeed, if anything that was not tried. */
  #remedy(challenge: string | string[] | undefined): Remedy | undefined {
    const errors = [challenge ?? []]
      .flat()
      .flatMap(parseChallenges)
      .filter(({ scheme }) => scheme === 'bearer' || scheme === 'dpop')
      .map(({ parameters }) => parameters['error']);
    const { generation, type } = this.#token as AccessToken;
    const target = this.#target;
    const hasNonce = type === 'DPoP' && target.nonce !== this.#nonce;
    if (errors.includes('use_dpop_nonce') && hasNonce && !this.#nonceRenewed) return 'nonce';
    if (!errors.includes('invalid_token') || this.#renewed) return undefined;
    if (generation > target.refusedGeneration) {
      if (!target.budget.tryWithdraw()) return undefined;
      target.refusedGeneration = generation;
    }
    return 'token';
  }

  /** Whoever is refused next with the same token pays for another renewal: this one brought nothing. */
  #unreplaced(): void {
    const { generation } = this.#token as AccessToken;
    if (this.#target.refusedGeneration === generation) this.#target.refusedGeneration -= 1;
  }

  #repeat(remedy: Remedy): void {
    this.#discarding = undefined;
    this.#discardedBytes = 0;
    const token = this.#token as AccessToken;
    const { generation } = token;
    if (retries.hasSubscribers) {
      const durationMs = performance.now() - this.#startedAt;
      const origin = this.#origin;
      retries.publish({ at: 'resource-server', origin, remedy, generation, durationMs });
    }
    if (remedy === 'token') {
      this.#renewed = true;
      this.#obtain({ forceRenewal: generation });
    } else {
      this.#nonceRenewed = true;
      this.#sendProved(token).catch((error: unknown) => this.#fail(error));
    }
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (!this.#discarding) {
      this.#handler.onResponseData?.(this.#controller, chunk);
      return;
    }
    this.#discardedBytes += chunk.length;
    if (this.#discardedBytes > MAX_DISCARDED_BYTES)
      controller.abort(new Error('refusal discarded'));
  }

  onResponseEnd(
    _controller: Dispatcher.DispatchController,
    trailers: Record<string, string>,
  ): void {
    if (this.#discarding) this.#repeat(this.#discarding);
    else this.#handler.onResponseEnd?.(this.#controller, trailers);
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    const remedy = this.#discarding;
    if (remedy && !this.#controller.abortedByCaller) this.#repeat(remedy);
    else this.#handler.onResponseError?.(this.#controller, error);
  }

  onRequestUpgrade(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: IncomingHttpHeaders,
    socket: Duplex,
  ): void {
    this.#handler.onRequestUpgrade?.(this.#controller, status, headers, socket);
  }

  onResponseStarted(): void {
    this.#handler.onResponseStarted?.();
  }

  onBodySent(chunk: Buffer): void {
    this.#handler.onBodySent?.(chunk);
  }

  onRequestSent(): void {
    this.#handler.onRequestSent?.();
  }
}

function newTarget(): Target {
  return {
    refusedGeneration: -1,
    // Six a minute, whatever the traffic.
    budget: retryBudget({ ratio: 0, minPerSecond: 0.1, windowMs: 60_000 }),
  };
}

/** The scheme and authority of a path that is a whole URL, as proxies are asked (RFC 9112 §3.2.2). */
const ABSOLUTE = /^https?:\/\/[^/?#]*/i;

/**
 * Undici 8 names the origin of a `Client` or `Pool` too. What has none must not be taken for what has been seen. A path
 * that is a whole URL is for that URL's origin, through whatever it is sent.
 */
function originOf({ origin, path }: Dispatcher.DispatchOptions): string {
  if (origin === undefined)
    throw new TypeError('accessToken() needs requests that name their origin');
  return new URL(ABSOLUTE.exec(path)?.[0] ?? origin).origin;
}

/** `localhost:3000` is a URL too, of scheme `localhost`: no request would ever match it. */
function isHttpUrl(text: string): boolean {
  return URL.canParse(text) && /^https?:$/.test(new URL(text).protocol);
}

/** Without types a source may give anything, and a request must not go out with the word `undefined` for a token. */
function isToken(token: AccessToken | undefined): boolean {
  const hasType = token?.type === 'Bearer' || token?.type === 'DPoP';
  return hasType && typeof token.value === 'string' && token.value !== '';
}

function isReplayable(body: unknown): boolean {
  return (
    body === null ||
    body === undefined ||
    typeof body === 'string' ||
    body instanceof Uint8Array ||
    body instanceof FormData
  );
}
