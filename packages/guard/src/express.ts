import type { Application, NextFunction, Request, RequestHandler, Response } from 'express';
import {
  type AdapterOptions,
  createGate,
  sendFailure,
  sendProblem,
  sendRefusal,
  statusOf,
  together,
} from './gate.ts';
import { isGuarded } from './response-headers.ts';
import type { Guard, GuardContext, Verdict } from './verdict.ts';

export type { AdapterOptions } from './gate.ts';

declare global {
  namespace Express {
    interface Request {
      /** What the guards found out. */
      guard: GuardContext;
    }
  }
}

/**
 * Puts guards before everything that is mounted after them; what they found out is `req.guard`. Mount it before the
 * body parsers, which still find the body.
 *
 * Errors that no error handler of yours answers, and requests nobody answers, end in a problem that says nothing but
 * its status; what was thrown is reported on `countersign:guard:handler-error`.
 * @throws TypeError when an option is out of range.
 */
export function express<C>(guard: Guard<C>, options: AdapterOptions = {}): RequestHandler {
  const gate = createGate(guard, options);
  return (req, res, next) => {
    const proceed = (verdict: Verdict<C>): void => {
      if (verdict.pass) {
        req.guard = together(req.guard, verdict.context) as GuardContext;
        next();
      } else sendRefusal(res, verdict);
    };
    answerLast(req.app);
    const verdict = gate(req, res, { url: targetOf(req), route: routeOf(req) });
    if ('then' in verdict) void verdict.then(proceed);
    else proceed(verdict);
  };
}

/** By what Express routes, also when something rewrote `req.url`. */
function targetOf({ baseUrl, url, originalUrl }: Request): string {
  // Where the path of the mount is all of it, Express puts the slash in itself.
  const received = !url.startsWith('/') || baseUrl + url.slice(1) === originalUrl;
  return received ? originalUrl : baseUrl + url;
}

/** Known to guards that are mounted on a route, not to those mounted before all of them. */
function routeOf({ baseUrl, route }: Request): string | undefined {
  return typeof route?.path === 'string' ? baseUrl + route.path : undefined;
}

/**
 * Express's own pages print the error with its stack, and there is no hook before them: so the last handlers of the
 * application are ours. They are mounted with the first request, when yours have been, and again when others follow.
 */
function answerLast(app: Application): void {
  const { parent } = app as { parent?: Application };
  if (parent) {
    answerLast(parent);
    return;
  }
  const { stack } = app.router as unknown as { stack: { handle: unknown }[] };
  if (stack.at(-1)?.handle !== answerError) app.use(answerMissing, answerError);
}

/** Leaves alone what another server may still answer, and the `OPTIONS` that Express answers by itself. */
function answerMissing(req: Request, res: Response, next: NextFunction): void {
  const { server } = req.socket as { server?: NodeJS.EventEmitter };
  const isLast = server?.listeners('request').includes(req.app) ?? false;
  if (!isLast || req.method === 'OPTIONS' || !isGuarded(res)) next();
  else sendProblem(res, 404);
}

function answerError(error: unknown, req: Request, res: Response, next: NextFunction): void {
  if (isGuarded(res)) sendFailure(req, res, statusOf(error), error);
  else next(error);
}
