import { STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import { problem } from './problem.ts';
import type { HeaderEntry } from './verdict.ts';

/** What node:http makes of errors it knows; anything else is a malformed request. */
const statuses: Readonly<Record<string, number>> = {
  ERR_HTTP_REQUEST_TIMEOUT: 408,
  HPE_CHUNK_EXTENSIONS_OVERFLOW: 413,
  HPE_HEADER_OVERFLOW: 431,
};

/**
 * Answers what is no HTTP (RFC 9112 §2.2) with a problem and closes the connection. There is no request then that
 * guards could look at, so the headers these answers shall carry are given here. For a server's `clientError` event
 * (`server.on('clientError', clientError(headers))`) and Fastify's option `clientErrorHandler`.
 * @param headers - such as those of `securityHeaders()`. Default none.
 */
export function clientError(
  headers: readonly HeaderEntry[] = [],
): (error: Error, socket: Duplex) => void {
  return (error, socket) => {
    const status = statuses[(error as NodeJS.ErrnoException).code ?? ''] ?? 400;
    if (!socket.writable || isAnswering(socket)) socket.destroy();
    else socket.end(messageOf(status, headers));
  };
}

/** A second answer in the middle of the first would be taken for a part of it. */
function isAnswering(socket: Duplex): boolean {
  const { _httpMessage: response } = socket as { _httpMessage?: { headersSent?: boolean } };
  return response?.headersSent === true;
}

function messageOf(status: number, headers: readonly HeaderEntry[]): string {
  const { headers: own, body } = problem({ status });
  const lines: readonly HeaderEntry[] = [
    ...headers,
    ...own,
    ['content-length', String(Buffer.byteLength(body))],
    ['connection', 'close'],
    ['date', new Date().toUTCString()],
  ];
  const fields = lines.map(([name, value]) => `${name}: ${value}\r\n`).join('');
  return `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${fields}\r\n${body}`;
}
