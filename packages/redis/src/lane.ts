import type { Redis } from 'ioredis';
import { type Batch, serverError } from './batch.ts';
import { StoreUnavailableError } from './errors.ts';
import { reloadChannel } from './events.ts';

/** What a lane tells its owner. */
export interface LaneObserver {
  /** The lane can take batches (again). */
  ready(): void;
  /** The connection was lost, or an attempt to make it failed. */
  down(): void;
  /** The server named another node, or is not ready for this slot; nothing was run. */
  redirected(batch: Batch, error: Error): void;
}

/**
 * A connection of our own to one Redis server. ioredis would queue commands while it reconnects and send commands again
 * that may have run already; on this connection both are off, so that a call runs at most once and never after its time.
 */
export class Lane {
  readonly #redis: Redis;
  readonly #observer: LaneObserver;
  readonly #sent = new Set<Batch>();
  /** An answer is overdue: what is written now would queue up behind it, unbounded. */
  #stalled = false;
  #failures = 0;
  #redial: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(like: Redis, observer: LaneObserver) {
    this.#observer = observer;
    this.#redis = like.duplicate({
      autoResendUnfulfilledCommands: false,
      enableOfflineQueue: false,
      enableAutoPipelining: false,
      maxRetriesPerRequest: null,
      // It dials again when somebody calls: a client that its user gave up must not be kept alive here.
      retryStrategy: null,
      reconnectOnError: null,
      commandTimeout: undefined,
      // A peer that vanished without a word is noticed by its silence.
      socketTimeout: like.options.socketTimeout ?? 5000,
      lazyConnect: true,
      monitor: false,
      readOnly: false,
      stringNumbers: false,
      replyMapping: 'legacy',
      keyPrefix: '',
      himportFieldsets: undefined,
    } as Parameters<Redis['duplicate']>[0]) as Redis;
    // Every error is also the failure of calls, which report it; connection attempts go on.
    this.#redis.on('error', () => {});
    this.#redis.on('ready', () => {
      this.#failures = 0;
      observer.ready();
    });
    // Without a retry strategy every lost connection and every failed attempt ends here.
    this.#redis.on('end', () => this.#lost());
    this.#dial();
  }

  get ready(): boolean {
    return this.#redis.status === 'ready' && this.#redis.stream.writable && !this.#stalled;
  }

  get idle(): boolean {
    return this.#sent.size === 0;
  }

  /** To be called while calls wait for this lane: connects, soon, if it is not connected. */
  wanted(): void {
    const { status } = this.#redis;
    if (this.#closed || this.#redial || (status !== 'end' && status !== 'wait')) return;
    const pauseMs = Math.min(25 * this.#failures, 500);
    this.#redial = setTimeout(() => {
      this.#redial = undefined;
      this.#dial();
    }, pauseMs).unref();
  }

  /** Holds back writes until `uncork()`, so that a tick's batches leave in one system call. */
  cork(): void {
    this.#redis.stream.cork();
  }

  uncork(): void {
    this.#redis.stream.uncork();
  }

  /** Sends a batch; the lane must be ready. */
  send(batch: Batch, asking = false): void {
    batch.carrier = this;
    this.#sent.add(batch);
    if (asking) this.#redis.call('ASKING').catch(() => {});
    this.#run(batch, 'EVALSHA', batch.script.sha);
  }

  expired(batch: Batch): void {
    if (this.#sent.has(batch)) this.#stalled = true;
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#redial);
    this.#redis.disconnect();
    this.#lost();
  }

  #dial(): void {
    this.#redis.connect().catch(() => {});
  }

  #run(batch: Batch, command: 'EVAL' | 'EVALSHA', script: string): void {
    const args = [script, ...batch.parameters];
    const answer =
      batch.script.replies === 'bytes'
        ? this.#redis.callBuffer(command, args)
        : this.#redis.call(command, args);
    answer.then(
      (replies) => {
        this.#answered(batch);
        batch.settle(replies as readonly unknown[]);
        this.#checkRole(replies as readonly unknown[]);
      },
      (error: Error) => this.#refused(batch, error),
    );
  }

  #answered(batch: Batch): void {
    this.#sent.delete(batch);
    if (!this.#stalled) return;
    this.#stalled = false;
    this.#observer.ready();
  }

  #refused(batch: Batch, error: Error): void {
    // The connection was lost: the batch has been failed for it, or is about to be.
    if (!this.#sent.has(batch) || this.#redis.status !== 'ready') return;
    if (error.message.startsWith('NOSCRIPT') && !batch.settled) {
      if (reloadChannel.hasSubscribers) reloadChannel.publish({ script: batch.script.sha });
      // EVAL also puts the script into the server's cache.
      this.#run(batch, 'EVAL', batch.script.source);
      return;
    }
    this.#answered(batch);
    if (batch.settled) return;
    batch.carrier = undefined;
    if (/^(MOVED|ASK|TRYAGAIN|CLUSTERDOWN)\b/.test(error.message)) {
      this.#observer.redirected(batch, error);
      return;
    }
    batch.fail(serverError(error));
    this.#checkRole([error]);
  }

  /** A server that calls itself a replica was demoted: connecting again finds the master (Sentinel, DNS). */
  #checkRole(replies: readonly unknown[]): void {
    const demoted = replies.some(
      (reply) => reply instanceof Error && reply.message.startsWith('READONLY'),
    );
    if (demoted && this.#redis.status === 'ready') this.#redis.disconnect();
  }

  #lost(): void {
    this.#failures += 1;
    this.#stalled = false;
    const lost = [...this.#sent];
    this.#sent.clear();
    for (const batch of lost) {
      batch.fail(
        new StoreUnavailableError(
          'ERR_STORE_UNAVAILABLE',
          'the connection to Redis was lost before the answer came; whether the operation took effect is unknown',
        ),
      );
    }
    this.#observer.down();
  }
}
