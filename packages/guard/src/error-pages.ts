import { ServerResponse } from 'node:http';
import { forgetBody, sendProblem } from './gate.ts';
import { type Fields, setFields } from './response-headers.ts';

/** Recognises a page that the framework made up by itself. */
export type IsOwnPage = (status: number, body: string) => boolean;

type Head = [status: number, reason?: string | Fields, fields?: Fields];

/**
 * Puts a problem in the place of the framework's own error pages, which tell what was thrown. The head of an error
 * waits for its body, which is written in the same turn; everything else goes by untouched.
 */
export function replaceErrorPages(
  res: ServerResponse,
  isOwnPage: IsOwnPage,
  replace: (res: ServerResponse, status: number) => void = sendProblem,
): void {
  const writeHead = res.writeHead.bind(res) as (...head: Head) => ServerResponse;
  const write = res.write.bind(res);
  const end = res.end.bind(res);
  const flushHeaders = res.flushHeaders.bind(res);
  let waiting: Head | undefined;
  /** node:http writes the head itself when it is asked for the first bytes without one. */
  let writing = false;

  const through = <T>(send: () => T): T => {
    const head = waiting;
    waiting = undefined;
    writing = true;
    try {
      if (head) writeHead(...head);
      return send();
    } finally {
      // What could not be written is followed by another answer.
      writing = false;
    }
  };
  res.writeHead = (...head: Head) => {
    if (writing || head[0] < 400 || res.headersSent) return writeHead(...head);
    refuseUnsendable(head, res);
    waiting = head;
    // What stands between may look at the head before it is written.
    res.statusCode = head[0];
    if (typeof head[1] === 'string') res.statusMessage = head[1];
    return res;
  };
  res.write = ((...chunk: Parameters<typeof write>) =>
    through(() => write(...chunk))) as ServerResponse['write'];
  res.flushHeaders = () => through(flushHeaders);
  res.end = ((...last: Parameters<typeof end>) => {
    const [status, reason, fields] = waiting ?? [res.statusCode];
    if (!waiting || !isOwnPage(status, String(last[0]))) return through(() => end(...last));
    waiting = undefined;
    const given = fields ?? reason;
    if (typeof given === 'object') setFields(res, given);
    forgetBody(res);
    replace(res, status);
    return res;
  }) as ServerResponse['end'];
}

/** Now, to whoever wrote it and may do something about it: nobody expects that of the body that it waits for. */
function refuseUnsendable([, reason, fields]: Head, { req }: ServerResponse): void {
  const given = fields ?? reason;
  if (typeof given === 'object') setFields(new ServerResponse(req), given);
}
