/** Now if it is known, later if it has to be waited for. */
export type MaybeLater<T> = T | Promise<T>;

/** Of users' functions any thenable will do. */
export function isLater<T>(value: T | PromiseLike<T>): value is PromiseLike<T> {
  return typeof value === 'object' && value !== null && 'then' in value;
}
