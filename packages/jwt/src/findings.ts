export type Severity = 'critical' | 'high' | 'medium' | 'low' | 'info';

/** What `inspectToken` can find. These names are stable. */
export type FindingCode =
  | 'JWT_MALFORMED'
  | 'JWT_DUPLICATE_MEMBER'
  | 'JWT_ENCRYPTED'
  | 'JWT_ALG_NONE'
  | 'JWT_NO_SIGNATURE'
  | 'JWT_WEAK_SECRET'
  | 'JWT_SYMMETRIC'
  | 'JWT_EMBEDDED_KEY'
  | 'JWT_KEY_URL'
  | 'JWT_KID_PATH'
  | 'JWT_KID_INJECTION'
  | 'JWT_CRITICAL_HEADER'
  | 'JWT_TYPE_MISSING'
  | 'JWT_IS_ID_TOKEN'
  | 'JWT_IS_REFRESH_TOKEN'
  | 'JWT_EXP_MISSING'
  | 'JWT_EXP_FAR'
  | 'JWT_LIFETIME'
  | 'JWT_EXPIRED'
  | 'JWT_TIME_INVALID'
  | 'JWT_IAT_MISSING'
  | 'JWT_SUB_MISSING'
  | 'JWT_AUD_MISSING'
  | 'JWT_ISS_MISSING'
  | 'JWT_SENSITIVE_CLAIM';

/** Something about a token that should be looked at. Never holds the token, a secret, or the value of a claim. */
export interface Finding {
  readonly code: FindingCode;
  readonly severity: Severity;
  readonly title: string;
  /** What was found in this token. */
  readonly detail: string;
  readonly fix: string;
}

interface Kind {
  readonly severity: Severity;
  readonly title: string;
  readonly fix: string;
}

const KINDS: Readonly<Record<FindingCode, Kind>> = {
  JWT_MALFORMED: {
    severity: 'high',
    title: 'The token is not a well-formed JWT',
    fix: 'Issue compact JWS (RFC 7515 §3.1) with canonical base64url and plain JSON.',
  },
  JWT_DUPLICATE_MEMBER: {
    severity: 'high',
    title: 'A member occurs twice',
    fix: 'Write each header parameter and claim once: parsers disagree on which of two counts.',
  },
  JWT_ENCRYPTED: {
    severity: 'info',
    title: 'The token is encrypted',
    fix: 'Nothing can be said about an encrypted token; inspect it where it is decrypted.',
  },
  JWT_ALG_NONE: {
    severity: 'critical',
    title: 'The token is not signed',
    fix: 'Sign tokens with RS256, ES256 or EdDSA, and refuse alg none everywhere.',
  },
  JWT_NO_SIGNATURE: {
    severity: 'critical',
    title: 'The signature is missing',
    fix: 'Sign tokens, and refuse tokens without a signature everywhere.',
  },
  JWT_WEAK_SECRET: {
    severity: 'critical',
    title: 'The token is signed with a guessable secret',
    fix: 'Replace the secret at once by 32 random bytes or more, or better by an asymmetric key.',
  },
  JWT_SYMMETRIC: {
    severity: 'medium',
    title: 'The token is signed with a shared secret',
    fix: 'Use RS256, ES256 or EdDSA: whoever can check an HMAC can also forge one.',
  },
  JWT_EMBEDDED_KEY: {
    severity: 'high',
    title: 'The header brings its own key',
    fix: 'Name the key by kid; verifiers must not take keys from tokens (RFC 8725 §3.10).',
  },
  JWT_KEY_URL: {
    severity: 'high',
    title: 'The header says where to fetch the key',
    fix: 'Name the key by kid; verifiers must not follow URLs from tokens (RFC 8725 §3.10).',
  },
  JWT_KID_PATH: {
    severity: 'high',
    title: 'kid looks like a path or a URL',
    fix: 'Use an opaque kid, and look it up in a fixed set of keys: never in a file system.',
  },
  JWT_KID_INJECTION: {
    severity: 'high',
    title: 'kid looks like SQL or a command',
    fix: 'Use an opaque kid, and never build a query or a command from it.',
  },
  JWT_CRITICAL_HEADER: {
    severity: 'medium',
    title: 'The header demands extensions',
    fix: 'Do without crit: verifiers that do not know the extension must refuse the token.',
  },
  JWT_TYPE_MISSING: {
    severity: 'low',
    title: 'The header does not say what the token is for',
    fix: 'Set typ to at+jwt in access tokens (RFC 9068 §2.1), so that no other JWT passes for one.',
  },
  JWT_IS_ID_TOKEN: {
    severity: 'medium',
    title: 'This is an ID token',
    fix: 'Keep it with the client it was issued to; send an access token to APIs.',
  },
  JWT_IS_REFRESH_TOKEN: {
    severity: 'high',
    title: 'This is a refresh token',
    fix: 'Send it to the authorization server only, never to an API.',
  },
  JWT_EXP_MISSING: {
    severity: 'high',
    title: 'The token never expires',
    fix: 'Set exp, at most 15 minutes after iat.',
  },
  JWT_EXP_FAR: {
    severity: 'high',
    title: 'The token expires in the far future',
    fix: 'Set exp at most 15 minutes after iat.',
  },
  JWT_LIFETIME: {
    severity: 'medium',
    title: 'The token lives longer than 15 minutes',
    fix: 'Issue short-lived access tokens and renew them.',
  },
  JWT_EXPIRED: {
    severity: 'info',
    title: 'The token has expired',
    fix: 'Nothing, unless something still accepts it.',
  },
  JWT_TIME_INVALID: {
    severity: 'high',
    title: 'A time is not in seconds since 1970',
    fix: 'Write times as numbers of seconds (RFC 7519 §2), not milliseconds and not texts.',
  },
  JWT_IAT_MISSING: {
    severity: 'medium',
    title: 'The token does not say when it was issued',
    fix: 'Set iat: without it nobody can tell how long the token lives.',
  },
  JWT_SUB_MISSING: {
    severity: 'medium',
    title: 'The token has no subject',
    fix: 'Set sub (RFC 9068 §2.2).',
  },
  JWT_AUD_MISSING: {
    severity: 'high',
    title: 'The token is meant for nobody in particular',
    fix: 'Set aud to the one API the token is for, and check it there.',
  },
  JWT_ISS_MISSING: {
    severity: 'high',
    title: 'The token does not say who issued it',
    fix: 'Set iss to the URL of the authorization server.',
  },
  JWT_SENSITIVE_CLAIM: {
    severity: 'high',
    title: 'The payload holds something sensitive',
    fix: 'Remove it: everybody who sees the token can read its payload.',
  },
};

export function finding(code: FindingCode, detail: string): Finding {
  const { severity, title, fix } = KINDS[code];
  return { code, severity, title, detail, fix };
}
