import { OAuthError, type OAuthErrorCode } from './errors.ts';

/** A response's body as a JSON object, or a coded error that says nothing of what was in it. */
export async function parseJsonObject(
  response: Response,
  code: OAuthErrorCode,
  what: string,
): Promise<Record<string, unknown>> {
  const { status } = response;
  const type = response.headers.get('content-type')?.split(';')[0]?.trim().toLowerCase() ?? '';
  if (!/^application\/([\w.-]+\+)?json$/.test(type)) {
    throw new OAuthError(code, `${what} is not JSON but ${type || 'untyped'}`, { status });
  }
  let value: unknown;
  try {
    value = JSON.parse(await response.text());
  } catch {
    // The parser's message quotes the text, and the text may hold a token.
    throw new OAuthError(code, `${what} is not well-formed JSON`, { status });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new OAuthError(code, `${what} is not a JSON object`, { status });
  }
  return value as Record<string, unknown>;
}
