/** Self-signed, for api.example.com, made for these tests and good for nothing else; valid for a hundred years. */
export const certificate = `-----BEGIN CERTIFICATE-----
MIIBpzCCAU2gAwIBAgIUYXOd2gOuIWWNwfDO8ibRniNNLhgwCgYIKoZIzj0EAwIw
GjEYMBYGA1UEAwwPYXBpLmV4YW1wbGUuY29tMCAXDTI2MTEyMzIxMjQ0MloYDzIx
MjYxMDMwMjEyNDQyWjAaMRgwFgYDVQQDDA9hcGkuZXhhbXBsZS5jb20wWTATBgcq
hkjOPQIBBggqhkjOPQMBBwNCAARrpKn/xZAopls7MkgusCVk7qIiASvw8WMqgjy3
JHbCCT7Al97xwbP62ZbxU7P+gWZyzwewYQKrWi0Ek3mqIJYLo28wbTAdBgNVHQ4E
FgQU0fL/NqFmaq/pFHJLIsQu4T9spuAwHwYDVR0jBBgwFoAU0fL/NqFmaq/pFHJL
IsQu4T9spuAwDwYDVR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgg9hcGkuZXhhbXBs
ZS5jb20wCgYIKoZIzj0EAwIDSAAwRQIhALLAtcGxfQlgVy914tY7nkgvhDC4jLfH
+wyKxrqZtJ8JAiBA/enzLAm1YGnbkdA8vmsBF5/B1cTbrVVgMuPio5W70g==
-----END CERTIFICATE-----
`;

export const privateKey = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgC/DD+uB3DP44NKeR
6WBstrn4lkfTK5KtL9RIBpRP0UWhRANCAARrpKn/xZAopls7MkgusCVk7qIiASvw
8WMqgjy3JHbCCT7Al97xwbP62ZbxU7P+gWZyzwewYQKrWi0Ek3mqIJYL
-----END PRIVATE KEY-----
`;
