/** The code of whatever was thrown, which may be anything: a provider of secrets or a store of the user's threw it. */
export function codeOf(thrown: unknown): string {
  const code = (thrown as { readonly code?: unknown } | null | undefined)?.code;
  return typeof code === 'string' ? code : 'ERR_UNKNOWN';
}
