import { OAuthError } from './errors.ts';
import { parseJsonObject } from './json.ts';

/** What a response other than 200 says, as an error. */
export async function refusal(
  response: Response,
  retryAfterMs: number | undefined,
): Promise<OAuthError> {
  const { status } = response;
  if (status >= 300 && status < 400) {
    return new OAuthError('ERR_OAUTH_REDIRECT', 'the endpoint redirects, which is not followed', {
      status,
    });
  }
  const { error, description } = await errorMembers(response);
  const common = { status, ...(error === undefined ? {} : { error }) };
  if (status === 429 || status >= 500) {
    return new OAuthError('ERR_OAUTH_UNAVAILABLE', `the authorization server answered ${status}`, {
      ...common,
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    });
  }
  if (status >= 400 && error !== undefined) {
    const message = `the authorization server refused: ${error}${description}`;
    return new OAuthError('ERR_OAUTH_REFUSED', message, common);
  }
  return new OAuthError('ERR_OAUTH_RESPONSE', `unexpected response with status ${status}`, common);
}

async function errorMembers(response: Response): Promise<{ error?: string; description: string }> {
  try {
    const body = await parseJsonObject(response, 'ERR_OAUTH_RESPONSE', 'the error response');
    const { error, error_description: description } = body;
    if (typeof error !== 'string' || !/^[\x20-\x21\x23-\x5b\x5d-\x7e]{1,64}$/.test(error)) {
      return { description: '' };
    }
    return { error, description: typeof description === 'string' ? ` (${tame(description)})` : '' };
  } catch {
    // A refusal in HTML is still a refusal: its status says so.
    return { description: '' };
  }
}

/** Some servers quote what they were sent. Nothing as long as a secret gets into a message, nor the part of one that is not cut off. */
function tame(description: string): string {
  return description
    .replace(/\S{20,}/g, '[…]')
    .slice(0, 200)
    .replace(/[^\x20-\x7e…]/g, '?');
}
