import type { Ending, Order } from './call.ts';
import { ClientError } from './errors.ts';
import { balanceOf } from './failure.ts';
import type { OriginState } from './origin.ts';
import { single } from './retry-policy.ts';

const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);
/** What describes a body, and goes with it. */
const BODY_HEADERS = ['content-type', 'content-length', 'content-encoding', 'content-language'];
/** All that another origin is told: nothing that the SDK, an interceptor or the caller attached for the first one. */
const HARMLESS_HEADERS = ['accept', 'accept-encoding'];

/**
 * The order that a redirect asks for (RFC 9110 §15.4), or `undefined` when the answer is not a redirect. A POST becomes
 * a GET on 301, 302 and 303; another origin is only ever asked with GET or HEAD, without a body or anything that was attached, and
 * never over http when this one was asked over https.
 * @throws ClientError `ERR_CLIENT_REDIRECT` when it cannot be followed.
 */
export function redirected(
  order: Order,
  { answer, attempts }: Ending,
  state: OriginState,
  bareDispatch: Order['dispatch'],
): Order | undefined {
  const { status, headers } = answer;
  const location = single(headers, 'location');
  if (!REDIRECTS.has(status) || location === undefined) return undefined;
  const refuse = (why: string): ClientError =>
    new ClientError('ERR_CLIENT_REDIRECT', `the redirect was not followed: ${why}`, {
      status,
      headers,
      attempts,
      ...balanceOf(state),
    });
  const here = `${order.target.origin}${order.target.path}`;
  if (!URL.canParse(location, here)) throw refuse('it leads to no URL');
  const url = new URL(location, here);
  // The origin of a blob: URL is that of the URL within.
  if (!/^https?:$/.test(url.protocol)) throw refuse('it leads to what is neither http nor https');
  if (url.username || url.password) throw refuse('it carries credentials');

  const next = status === 307 || status === 308 ? order : asGet(order, status);
  const { method } = next.identity;
  if (next.payload && !next.replayable) throw refuse('the body can be sent only once');
  const target = { origin: url.origin, path: `${url.pathname}${url.search}` };
  const identity = { ...next.identity, origin: target.origin, path: url.pathname };
  if (target.origin === order.target.origin) return { ...next, target, identity };
  if (method !== 'GET' && method !== 'HEAD') throw refuse('it leads a write to another origin');
  if (next.payload) throw refuse('it leads a body to another origin');
  if (url.protocol === 'http:' && order.target.origin.startsWith('https:')) {
    throw refuse('it leads away from https');
  }
  return {
    ...next,
    target,
    identity,
    dispatch: bareDispatch,
    headers: only(next.headers, (name) => HARMLESS_HEADERS.includes(name)),
    deadlineHeader: undefined,
  };
}

function asGet(order: Order, status: number): Order {
  const { method } = order.identity;
  const becomesGet = status === 303 ? method !== 'HEAD' : method === 'POST';
  if (!becomesGet) return order;
  const { idempotencyKey: _, ...identity } = order.identity;
  return {
    ...order,
    identity: { ...identity, method: 'GET' },
    headers: only(
      order.headers,
      (name) => !BODY_HEADERS.includes(name) && name !== 'idempotency-key',
    ),
    payload: null,
    repeatable: true,
  };
}

function only(
  headers: Readonly<Record<string, string>>,
  keep: (name: string) => boolean,
): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => keep(name)));
}
