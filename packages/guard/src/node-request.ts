import type { IncomingMessage, ServerResponse } from 'node:http';
import type { TLSSocket } from 'node:tls';
import { readBody } from './body.ts';
import type { GuardRequest, RequestHeaders } from './request.ts';
import { callerAddress, normalize, type Trust } from './trusted-proxies.ts';

export interface RequestRules {
  readonly maxBodyBytes: number;
  readonly trusts: Trust;
}

/** What node:http received, as guards see it. Whatever costs something is made when a guard asks for it. */
export class NodeRequest implements GuardRequest {
  readonly method: string;
  readonly route?: string;
  readonly headers: RequestHeaders;
  private readonly req: IncomingMessage;
  private readonly res: ServerResponse;
  private readonly url: string;
  private readonly rules: RequestRules;
  private knownQuery: URLSearchParams | undefined;
  private knownAddress: string | undefined;
  private knownSignal: AbortSignal | undefined;

  constructor(
    req: IncomingMessage,
    res: ServerResponse,
    rules: RequestRules,
    url: string,
    route?: string,
  ) {
    this.req = req;
    this.res = res;
    this.rules = rules;
    this.url = url;
    this.method = req.method ?? '';
    this.headers = new NodeHeaders(req.rawHeaders);
    if (route !== undefined) this.route = route;
  }

  get path(): string {
    return pathOf(this.url);
  }

  get query(): URLSearchParams {
    this.knownQuery ??= new URLSearchParams(this.search);
    return this.knownQuery;
  }

  get search(): string {
    const at = this.url.indexOf('?');
    if (at < 0) return '';
    const end = this.url.indexOf('#', at);
    return end < 0 ? this.url.slice(at) : this.url.slice(at, end);
  }

  get remoteAddress(): string {
    this.knownAddress ??= callerAddress(
      this.req.socket.remoteAddress ?? '',
      this.headers.all('x-forwarded-for'),
      this.rules.trusts,
    );
    return this.knownAddress;
  }

  get secure(): boolean {
    const { socket } = this.req;
    const forwarded = this.headers.all('x-forwarded-proto');
    if (forwarded.length > 0 && this.viaTrustedProxy) {
      // The last word is the nearest proxy's.
      return forwarded.join(',').split(',').at(-1)?.trim().toLowerCase() === 'https';
    }
    return (socket as TLSSocket).encrypted === true;
  }

  get viaTrustedProxy(): boolean {
    return this.rules.trusts(normalize(this.req.socket.remoteAddress ?? ''));
  }

  get signal(): AbortSignal {
    this.knownSignal ??= signalOf(this.res);
    return this.knownSignal;
  }

  rawBody(maxBytes: number = Number.POSITIVE_INFINITY): Promise<Uint8Array> {
    if (!(maxBytes >= 0)) {
      return Promise.reject(new TypeError(`rawBody: expected a number of bytes, got ${maxBytes}`));
    }
    return readBody(this.req, this.res, Math.min(maxBytes, this.rules.maxBodyBytes));
  }
}

/** Read from the field lines as received: node:http's own `headers` hide duplicates. */
class NodeHeaders implements RequestHeaders {
  private readonly raw: readonly string[];

  constructor(raw: readonly string[]) {
    this.raw = raw;
  }

  get(name: string): string | undefined {
    const values = this.all(name);
    return values.length > 1 ? values.join(', ') : values[0];
  }

  all(name: string): readonly string[] {
    const { raw } = this;
    const wanted = name.toLowerCase();
    const values: string[] = [];
    for (let at = 0; at < raw.length; at += 2) {
      const found = raw[at] as string;
      if (found.length === wanted.length && found.toLowerCase() === wanted) {
        values.push(raw[at + 1] as string);
      }
    }
    return values;
  }
}

/** A request may name its target in full (`GET http://host/path`, RFC 9112 §3.2.2), and every router accepts that. */
export function pathOf(url: string): string {
  const target = url.startsWith('/') ? url : url.replace(/^[a-z][a-z0-9+.-]*:\/\/[^/?#\\]*/i, '');
  const end = target.search(/[?#]/);
  const path = end < 0 ? target : target.slice(0, end);
  return path === '' ? '/' : path;
}

function signalOf(res: ServerResponse): AbortSignal {
  const controller = new AbortController();
  const leave = (): void => {
    if (!res.writableFinished) controller.abort();
  };
  if (res.destroyed) leave();
  else res.once('close', leave);
  return controller.signal;
}
