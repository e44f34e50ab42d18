import { describe, expect, it } from 'vitest';
import { protectedResourceGuard } from '../src/guard.ts';
import {
  type ProtectedResourceMetadata,
  protectedResourceMetadata,
  protectedResourceMetadataUrl,
} from '../src/index.ts';
import { request } from './request.ts';

const resource = 'https://api.example.com/orders';

describe('protectedResourceMetadata', () => {
  it('is what RFC 9728 §2 says, with tokens in the header only', () => {
    expect(
      protectedResourceMetadata({
        resource,
        authorization_servers: ['https://auth.example.com'],
        scopes_supported: ['orders:read'],
        dpop_signing_alg_values_supported: ['ES256'],
        tls_client_certificate_bound_access_tokens: false,
      }),
    ).toEqual({
      resource,
      authorization_servers: ['https://auth.example.com'],
      scopes_supported: ['orders:read'],
      bearer_methods_supported: ['header'],
      dpop_signing_alg_values_supported: ['ES256'],
      tls_client_certificate_bound_access_tokens: false,
    });
  });

  it('leaves out lists without entries (RFC 9728 §3.2)', () => {
    expect(protectedResourceMetadata({ resource, scopes_supported: [] })).toEqual({
      resource,
      bearer_methods_supported: ['header'],
    });
  });

  it.each([
    [{}, /resource/],
    [{ resource: 'http://api.example.com' }, /resource must be an https URL/],
    [{ resource: 'https://api.example.com/#x' }, /fragment/],
    [{ resource, authorization_servers: ['http://x'] }, /authorization_servers/],
    [{ resource, jwks_uri: 'x' }, /jwks_uri/],
    [{ resource, bearer_methods_supported: ['query'] }, /bearer_methods_supported/],
    [{ resource, scopes: [] }, /unknown metadata member "scopes"/],
  ])('refuses %j', (metadata, message) => {
    expect(() => protectedResourceMetadata(metadata as ProtectedResourceMetadata)).toThrow(message);
  });
});

describe('protectedResourceMetadataUrl', () => {
  it.each([
    ['https://api.example.com', 'https://api.example.com/.well-known/oauth-protected-resource'],
    ['https://api.example.com/', 'https://api.example.com/.well-known/oauth-protected-resource'],
    [resource, 'https://api.example.com/.well-known/oauth-protected-resource/orders'],
    [
      'https://api.example.com/a/b?tenant=1',
      'https://api.example.com/.well-known/oauth-protected-resource/a/b?tenant=1',
    ],
  ])('of %s is %s (RFC 9728 §3.1)', (from, to) => {
    expect(protectedResourceMetadataUrl(from)).toBe(to);
  });
});

describe('protectedResourceGuard', () => {
  const guard = protectedResourceGuard({ resource });

  it('answers at the well-known path, without a token', async () => {
    const path = '/.well-known/oauth-protected-resource/orders';
    const verdict = await guard(request({ path }), {});
    expect(verdict).toMatchObject({ pass: false, status: 200 });
    expect(verdict).toHaveProperty(
      'headers',
      expect.arrayContaining([['content-type', 'application/json']]),
    );
    const { body } = verdict as unknown as { body: string };
    expect(JSON.parse(body)).toEqual({ resource, bearer_methods_supported: ['header'] });
  });

  it.each([
    { path: '/orders' },
    { path: '/.well-known/oauth-protected-resource' },
    { path: '/.well-known/oauth-protected-resource/orders', method: 'POST' },
  ])('lets %j pass', async (other) => {
    expect(await guard(request(other), {})).toEqual({ pass: true, context: undefined });
  });
});
