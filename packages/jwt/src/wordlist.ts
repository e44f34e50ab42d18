const WORDS =
  'secret|Secret|SECRET|secret1|secret123|secretkey|secret_key|secret-key|SecretKey|SECRET_KEY|' +
  'mysecret|my_secret|my-secret|mysecretkey|MySecretKey|my-secret-key|my_secret_key|supersecret|' +
  'super_secret|super-secret|topsecret|supersecretkey|super-secret-key|verysecret|verysecretkey|' +
  'notsosecret|s3cr3t|shhhh|shhhhh|shhhhhhh|shhhhhhared-secret|shared-secret|sharedsecret|hush|' +
  'your-256-bit-secret|your-384-bit-secret|your-512-bit-secret|your-secret|yoursecret|your_secret|' +
  'your-secret-key|your_secret_key|yoursecretkey|your_jwt_secret|your-jwt-secret|your-super-secret|' +
  'your-super-secret-key|your-secret-here|a-string-secret-at-least-256-bits-long|' +
  'a-valid-string-secret-that-is-at-least-512-bits-long|jwt|JWT|jwtsecret|jwt_secret|jwt-secret|' +
  'jwtSecret|JWT_SECRET|jwtkey|jwt_key|jwt-key|jwt_secret_key|jwt-secret-key|jwtprivatekey|' +
  'myjwtsecret|token|tokensecret|token_secret|token-secret|access_token_secret|accesstoken|' +
  'ACCESS_TOKEN_SECRET|refresh_token_secret|key|apikey|api_key|private|privatekey|password|' +
  'Password|passw0rd|p@ssw0rd|P@ssw0rd|password1|password123|pass|admin|admin123|administrator|' +
  'root|toor|user|guest|test|test123|testing|test-secret|testsecret|test_secret|dev|development|' +
  'dev-secret|devsecret|changeme|change-me|change_me|ChangeMe|changeit|replaceme|replace-me|fixme|' +
  'default|example|example_key|sample|demo|foo|bar|foobar|baz|qux|todo|1|12|123|1234|12345|123456|' +
  '1234567|12345678|123456789|1234567890|0|00000000|11111111|abc|abc123|abcd|abcd1234|abcdef|' +
  'abcdefghijklmnop|qwerty|qwerty123|qwertyuiop|asdf|asdfgh|asdfasdf|zxcvbn|letmein|welcome|' +
  'iloveyou|monkey|dragon|master|hello|helloworld|hello-world|world|app|keyboard cat|keyboardcat|' +
  'thisisasecret|this is a secret|thisismysecret|this-is-a-secret|gizmo|gitlab|github|laravel|' +
  'django|flask|express|node|nodejs|spring|production|prod|staging|local|localhost|secure|security|' +
  'auth|authsecret|auth_secret|session|session_secret|cookie_secret|signing_key|signingkey|hmac|| |' +
  'null|undefined|none|true|false|{}|NaN|[object Object]';

/** Secrets that tutorials, defaults and haste have made common. Tried by `inspectToken` unless it is given others. */
export const COMMON_SECRETS: readonly string[] = WORDS.split('|');
