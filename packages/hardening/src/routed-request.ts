import type { GuardRequest, RequestHeaders } from '@countersign/guard';

/** The request, whose route is known now. */
export class RoutedRequest implements GuardRequest {
  readonly route: string;
  private readonly request: GuardRequest;

  constructor(request: GuardRequest, route: string) {
    this.request = request;
    this.route = route;
  }
  get method(): string {
    return this.request.method;
  }
  get path(): string {
    return this.request.path;
  }
  get query(): URLSearchParams {
    return this.request.query;
  }
  get search(): string | undefined {
    return this.request.search;
  }
  get headers(): RequestHeaders {
    return this.request.headers;
  }
  get remoteAddress(): string {
    return this.request.remoteAddress;
  }
  get secure(): boolean {
    return this.request.secure;
  }
  get viaTrustedProxy(): boolean {
    return this.request.viaTrustedProxy ?? false;
  }
  get signal(): AbortSignal {
    return this.request.signal;
  }
  rawBody(maxBytes?: number): Promise<Uint8Array> {
    return this.request.rawBody(maxBytes);
  }
}
