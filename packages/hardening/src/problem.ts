import type { HeaderEntry, Reply } from '@countersign/guard';
import type { MappedError } from './error-mapper.ts';

const titles: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
  406: 'Not Acceptable',
  408: 'Request Timeout',
  409: 'Conflict',
  410: 'Gone',
  412: 'Precondition Failed',
  413: 'Content Too Large',
  415: 'Unsupported Media Type',
  422: 'Unprocessable Content',
  428: 'Precondition Required',
  429: 'Too Many Requests',
  431: 'Request Header Fields Too Large',
  500: 'Internal Server Error',
  501: 'Not Implemented',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
  504: 'Gateway Timeout',
};

const contentType: HeaderEntry = ['content-type', 'application/problem+json'];

/** A problem (RFC 9457), titled as its status is. @throws what `JSON.stringify` throws for members that JSON cannot say. */
export function problem({ status, type = 'about:blank', title, ...rest }: MappedError): Reply {
  return {
    pass: false,
    status,
    headers: [contentType],
    body: JSON.stringify({ type, title: title ?? titles[status] ?? 'Error', status, ...rest }),
  };
}
