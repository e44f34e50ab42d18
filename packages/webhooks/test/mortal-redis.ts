import type { Socket } from 'node:net';
import type { RedisClientOptions } from '@countersign/testkit/redis';
import { Redis } from 'ioredis';

/** Counts what a process asks of Redis, and ends its life before one of the requests: as `kill -9` does. */
export class Life {
  #left: number;
  #asked = 0;
  readonly #death = Promise.withResolvers<void>();
  readonly #clients = new Set<MortalRedis>();

  /** @param requests - how many are made before the end. */
  constructor(requests: number) {
    this.#left = requests;
  }

  get asked(): number {
    return this.#asked;
  }

  /** Resolves when it is over. */
  get death(): Promise<void> {
    return this.#death.promise;
  }

  born(client: MortalRedis): void {
    this.#clients.add(client);
  }

  /** Whether the request may be made. */
  asks(): boolean {
    if (this.#left === 0) {
      this.#death.resolve();
      return false;
    }
    this.#left -= 1;
    this.#asked += 1;
    return true;
  }

  /** The sockets of a dead process are closed; resolves when Redis knows, and has done what was asked before. */
  async bury(witness: Redis): Promise<void> {
    this.#left = 0;
    const addresses = [...this.#clients].map((client) => client.address);
    for (const client of this.#clients) client.disconnect();
    for (;;) {
      const connected = String(await witness.client('LIST'));
      if (!addresses.some((address) => connected.includes(` addr=${address} `))) return;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }
}

/** What a connection says to be one, and what only looks: not worth dying at. */
const SMALL_TALK = new Set(['info', 'client', 'hello', 'ping', 'script', 'select']);

/** A client, and all that are made from it, that ask nothing more once their {@link Life} is over. */
export class MortalRedis extends Redis {
  readonly #life: Life;

  constructor(life: Life, options: RedisClientOptions) {
    super(options);
    this.#life = life;
    life.born(this);
  }

  /** As Redis sees it. */
  get address(): string {
    const { localAddress, localPort } = this.stream as Socket;
    return `${localAddress}:${localPort}`;
  }

  override duplicate(override: Parameters<Redis['duplicate']>[0] = {}): Redis {
    return new MortalRedis(this.#life, { ...this.options, ...override } as RedisClientOptions);
  }

  override sendCommand(...[command, stream]: Parameters<Redis['sendCommand']>): unknown {
    // The constructor of the parent may ask already.
    const asks = SMALL_TALK.has(command.name) || this.#life.asks();
    return asks ? super.sendCommand(command, stream) : command.promise;
  }
}
