import { Command, type Redis } from 'ioredis';
import { Alarm } from './alarm.ts';
import type { Batch } from './batch.ts';
import { timeoutError } from './deadline.ts';
import { StoreUnavailableError } from './errors.ts';
import { reloadChannel } from './events.ts';
import { Load } from './load.ts';
import {
  isDemotion,
  isRedirection,
  isUnknownScript,
  serverError,
  withoutCommand,
} from './refusal.ts';
import { Unanswered } from './unanswered.ts';

/** Calls that may be unanswered on one connection; more have to wait. */
const maxUnansweredCalls = 50_000;
const usualSilenceMs = 5000;
const textReply = { replyEncoding: 'utf8' } as const;
const bytesReply = { replyEncoding: null } as const;

export interface Address {
  readonly host: string;
  readonly port: number;
}

/** What a lane tells its owner. */
export interface LaneObserver {
  /** The lane can take batches (again). */
  ready(): void;
  /** The connection was lost, or an attempt to make it failed. */
  down(): void;
  /** The server did not run it, and named another node or is not ready for this slot. */
  redirected(batch: Batch, error: Error): void;
  /** It was not run, and the connection is about to be lost. */
  returned(batch: Batch): void;
}

/**
 * A connection of our own to one Redis server. ioredis would queue commands while it reconnects and send commands again
 * that may have run already; on this connection both are off, so that a call runs at most once.
 */
export class Lane {
  readonly #like: () => Redis;
  readonly #redis: Redis;
  readonly #observer: LaneObserver;
  /** A batch stays when its calls have timed out. */
  readonly #unanswered = new Unanswered();
  readonly #load = new Load(maxUnansweredCalls);
  readonly #silenceMs: number;
  readonly #watch = new Alarm(() => this.#look(), false);
  #heardAt = 0;
  #connected = false;
  /** An answer is overdue: what is written now would queue up behind it. */
  #stalled = false;
  /** It had no room for a batch. */
  #full = false;
  #used = true;
  #failures = 0;
  #redial: NodeJS.Timeout | undefined;
  #retiring = false;
  #closed = false;
  #trouble: Error | undefined;

  /** @param like - the client whose server and options this connection shares, as they are now. */
  constructor(like: () => Redis, observer: LaneObserver, address: Partial<Address> = {}) {
    const client = like();
    this.#like = like;
    this.#observer = observer;
    this.#silenceMs = client.options.socketTimeout ?? usualSilenceMs;
    this.#redis = client.duplicate({
      ...address,
      autoResendUnfulfilledCommands: false,
      enableOfflineQueue: false,
      enableAutoPipelining: false,
      maxRetriesPerRequest: null,
      // It dials again when somebody calls: a client that its user gave up must not be kept alive here.
      retryStrategy: null,
      reconnectOnError: null,
      commandTimeout: undefined,
      // It would set a timer and a listener for each command. Silence is noticed here, by the watch for deadlines.
      socketTimeout: undefined,
      lazyConnect: true,
      monitor: false,
      readOnly: false,
      showFriendlyErrorStack: false,
      stringNumbers: false,
      replyMapping: 'legacy',
      keyPrefix: '',
      himportFieldsets: undefined,
    } as Parameters<Redis['duplicate']>[0]) as Redis;
    // Every error is also the failure of calls, which report it; connection attempts go on.
    this.#redis.on('error', (error: Error) => {
      this.#trouble = withoutCommand(error);
    });
    this.#redis.on('connect', () => {
      this.#heardAt = performance.now();
      this.#watch.by(this.#heardAt + this.#silenceMs);
    });
    this.#redis.on('ready', () => {
      this.#connected = true;
      this.#failures = 0;
      this.#trouble = undefined;
      observer.ready();
    });
    // Without a retry strategy every lost connection and every failed attempt ends here.
    this.#redis.on('end', () => (this.#retiring ? this.close() : this.#lost()));
    this.#dial();
  }

  /** Whether this can be sent now; if not, the owner hears when it is worth while to ask again. */
  takes(batch: Batch): boolean {
    if (!this.#connected || this.#stalled || this.#retiring || !this.#redis.stream.writable)
      return false;
    if (this.#load.hasRoomFor(batch)) return true;
    this.#full = true;
    return false;
  }

  get idle(): boolean {
    return this.#unanswered.empty;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Why there is no connection. */
  get trouble(): Error | undefined {
    return this.#trouble;
  }

  /** Whether nobody needed it since it was last asked this. */
  disused(): boolean {
    const disused = this.idle && !this.#used;
    this.#used = false;
    return disused;
  }

  /** To be called while calls wait for this lane: connects, soon, if it is not connected. */
  wanted(): void {
    this.#used = true;
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

  /**
   * Sends a batch that it takes.
   * @param asking - that this node was named for a slot it does not have yet.
   */
  send(batch: Batch, asking: boolean): void {
    if (this.#unanswered.empty) this.#heardAt = performance.now();
    this.#used = true;
    this.#unanswered.add(batch);
    this.#load.add(batch);
    this.#watch.by(Math.min(batch.dueAt, this.#heardAt + this.#silenceMs));
    this.#run(batch, asking);
  }

  /** Closes as soon as nothing is under way. */
  retire(): void {
    this.#retiring = true;
    if (this.idle) this.close();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#redial);
    // ioredis would wait for the end of a connection that has ended.
    if (this.#redis.status !== 'end') this.#redis.disconnect();
    this.#lost();
  }

  #dial(): void {
    // They may have been changed since; ioredis reads them whenever it connects.
    const { username, password, sentinelUsername, sentinelPassword, tls } = this.#like().options;
    Object.assign(this.#redis.options, {
      username,
      password,
      sentinelUsername,
      sentinelPassword,
      tls,
    });
    this.#redis.connect().catch(() => {});
  }

  #run(batch: Batch, asking: boolean): void {
    this.#evaluate(batch, 'EVALSHA', batch.script.sha, asking).then(
      (replies) => this.#answered(batch, replies),
      (error: Error) => {
        if (isUnknownScript(error) && !batch.settled) this.#reload(batch, asking);
        else this.#refused(batch, error);
      },
    );
  }

  /** `EVAL` also puts the script into the server's cache. */
  #reload(batch: Batch, asking: boolean): void {
    if (!batch.sent) return;
    if (!this.#redis.stream.writable) {
      this.#done(batch);
      this.#observer.returned(batch);
      return;
    }
    if (reloadChannel.hasSubscribers) reloadChannel.publish({ script: batch.script.sha });
    this.#evaluate(batch, 'EVAL', batch.script.source, asking).then(
      (replies) => this.#answered(batch, replies),
      (error: Error) => this.#refused(batch, error),
    );
  }

  #evaluate(
    batch: Batch,
    name: 'EVAL' | 'EVALSHA',
    script: string,
    asking: boolean,
  ): Promise<unknown> {
    // It holds for the next command only.
    if (asking) this.#redis.call('ASKING').catch(() => {});
    const command = new Command(
      name,
      batch.parameters(script),
      batch.script.replies === 'bytes' ? bytesReply : textReply,
    );
    this.#redis.sendCommand(command);
    return command.promise;
  }

  #answered(batch: Batch, replies: unknown): void {
    this.#done(batch);
    batch.settle(replies);
    if (Array.isArray(replies) && replies.some(isDemotion)) this.#leave();
  }

  #refused(batch: Batch, error: Error): void {
    // Not an answer: the connection is about to be lost or was, and the batch fails, or has failed, with it.
    if (error.name !== 'ReplyError' || !batch.sent) return;
    this.#done(batch);
    if (isDemotion(error)) this.#leave();
    if (batch.settled) return;
    if (isRedirection(error)) this.#observer.redirected(batch, error);
    else batch.fail(serverError(error));
  }

  #done(batch: Batch): void {
    if (!batch.sent) return;
    this.#heardAt = performance.now();
    this.#unanswered.delete(batch);
    this.#load.remove(batch);
    if (this.#retiring && this.idle) this.close();
    if (!this.#stalled && !(this.#full && this.#load.low)) return;
    this.#stalled = false;
    this.#full = false;
    this.#observer.ready();
  }

  /** Connecting again finds the master (Sentinel, DNS). */
  #leave(): void {
    if (this.#connected) this.#redis.disconnect();
    this.#connected = false;
  }

  /** Fails what is overdue, and leaves a server that was silent for too long. */
  #look(): void {
    const now = performance.now();
    let next = Number.POSITIVE_INFINITY;
    for (const batch of this.#unanswered) {
      if (batch.settled) continue;
      if (batch.dueAt <= now) {
        this.#stalled = true;
        batch.fail(timeoutError(batch.timeoutMs));
      } else next = Math.min(next, batch.dueAt);
    }
    if (!this.idle || this.#redis.status === 'connect') {
      const silentAt = this.#heardAt + this.#silenceMs;
      if (now >= silentAt) this.#redis.stream.destroy();
      else next = Math.min(next, silentAt);
    }
    this.#watch.by(next);
  }

  #lost(): void {
    this.#connected = false;
    this.#stalled = false;
    this.#full = false;
    this.#failures += 1;
    this.#load.clear();
    this.#watch.clear();
    for (const batch of this.#unanswered) {
      this.#unanswered.delete(batch);
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
