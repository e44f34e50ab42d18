import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

export interface RawResponse {
  readonly status: number;
  /** Names in lower case; several lines of one field stay several. */
  readonly headers: readonly (readonly [string, string])[];
  readonly body: Buffer;
  readonly trailers: string;
  header(name: string): string | undefined;
  all(name: string): readonly string[];
}

/** A connection that sends exactly what it is told, and understands just enough of HTTP/1.1 to tell responses apart. */
export class RawConnection {
  readonly socket: Socket;
  readonly closed: Promise<void>;
  private received: Buffer = Buffer.alloc(0);
  private ended = false;
  private wake: () => void = () => {};

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk) => {
      this.received = Buffer.concat([this.received, chunk]);
      this.wake();
    });
    socket.on('error', () => {});
    this.closed = new Promise((resolve) => {
      socket.on('close', () => {
        this.ended = true;
        this.wake();
        resolve();
      });
    });
  }

  static async open(port: number): Promise<RawConnection> {
    const socket = connect(port, '127.0.0.1');
    await once(socket, 'connect');
    return new RawConnection(socket);
  }

  send(data: string | Uint8Array): this {
    this.socket.write(data);
    return this;
  }

  /** What has arrived so far and was not taken. */
  get pending(): string {
    return this.received.toString('latin1');
  }

  /** Waits until `text` has arrived, without taking anything. */
  async until(text: string): Promise<void> {
    while (!this.received.includes(text)) await this.more();
  }

  /** The next final response; 1xx are skipped unless asked for. */
  async response(options: { head?: boolean; interim?: boolean } = {}): Promise<RawResponse> {
    const [status, headers] = parseHead(await this.takeUntil('\r\n\r\n'));
    if (status < 200 && options.interim !== true) return this.response(options);
    const all = (name: string): string[] =>
      headers.filter(([given]) => given === name).map(([, value]) => value);
    const header = (name: string): string | undefined => all(name)[0];
    const bodiless = options.head === true || status < 200 || status === 204 || status === 304;
    let body: Buffer = Buffer.alloc(0);
    let trailers = '';
    if (!bodiless && header('transfer-encoding') === 'chunked') {
      [body, trailers] = await this.takeChunked();
    } else if (!bodiless) {
      body = await this.take(Number(header('content-length') ?? 0));
    }
    return { status, headers, body, trailers, header, all };
  }

  close(): void {
    this.socket.destroy();
  }

  private async takeChunked(): Promise<[Buffer, string]> {
    const chunks: Buffer[] = [];
    for (;;) {
      const size = Number.parseInt(await this.takeUntil('\r\n'), 16);
      if (size === 0) break;
      chunks.push(await this.take(size));
      await this.take(2);
    }
    let trailers = '';
    for (
      let line = await this.takeUntil('\r\n');
      line !== '';
      line = await this.takeUntil('\r\n')
    ) {
      trailers += `${line}\n`;
    }
    return [Buffer.concat(chunks), trailers];
  }

  private async takeUntil(mark: string): Promise<string> {
    await this.until(mark);
    const at = this.received.indexOf(mark);
    const text = this.received.subarray(0, at).toString('latin1');
    this.received = this.received.subarray(at + mark.length);
    return text;
  }

  private async take(length: number): Promise<Buffer> {
    while (this.received.length < length) await this.more();
    const bytes = this.received.subarray(0, length);
    this.received = this.received.subarray(length);
    return bytes;
  }

  private async more(): Promise<void> {
    if (this.ended) throw new Error(`the connection ended after: ${this.pending.slice(0, 200)}`);
    await new Promise<void>((resolve) => {
      this.wake = resolve;
    });
  }
}

function parseHead(head: string): [number, [string, string][]] {
  const [statusLine = '', ...lines] = head.split('\r\n');
  const headers = lines.map((line): [string, string] => {
    const at = line.indexOf(':');
    return [line.slice(0, at).toLowerCase(), line.slice(at + 1).trim()];
  });
  return [Number(statusLine.split(' ')[1]), headers];
}
