import { assertFetchable } from './discovery.ts';
import { assertKnown } from './options.ts';

/** What a resource server says about itself (RFC 9728 §2), under the names of the specification. */
export interface ProtectedResourceMetadata {
  /** The resource's identifier: an https URL, and the `audience` its tokens are meant for. */
  readonly resource: string;
  /** Issuers whose tokens are accepted here. */
  readonly authorization_servers?: readonly string[];
  readonly jwks_uri?: string;
  readonly scopes_supported?: readonly string[];
  /** Default `['header']`, which is all that `jwtGuard` accepts. */
  readonly bearer_methods_supported?: readonly 'header'[];
  readonly resource_signing_alg_values_supported?: readonly string[];
  readonly resource_name?: string;
  readonly resource_documentation?: string;
  readonly resource_policy_uri?: string;
  readonly resource_tos_uri?: string;
  readonly tls_client_certificate_bound_access_tokens?: boolean;
  readonly authorization_details_types_supported?: readonly string[];
  readonly dpop_signing_alg_values_supported?: readonly string[];
  readonly dpop_bound_access_tokens_required?: boolean;
}

const NAMES: readonly string[] = [
  'resource',
  'authorization_servers',
  'jwks_uri',
  'scopes_supported',
  'bearer_methods_supported',
  'resource_signing_alg_values_supported',
  'resource_name',
  'resource_documentation',
  'resource_policy_uri',
  'resource_tos_uri',
  'tls_client_certificate_bound_access_tokens',
  'authorization_details_types_supported',
  'dpop_signing_alg_values_supported',
  'dpop_bound_access_tokens_required',
] satisfies (keyof ProtectedResourceMetadata)[];

const WELL_KNOWN = '/.well-known/oauth-protected-resource';

/**
 * Checks metadata and completes it: tokens come in the header only, and empty lists are left out (RFC 9728 §3.2).
 * @throws TypeError naming the member that is wrong
 */
export function protectedResourceMetadata(
  metadata: ProtectedResourceMetadata,
): ProtectedResourceMetadata {
  assertKnown('metadata member', metadata, NAMES);
  assertFetchable('resource', metadata.resource);
  for (const server of metadata.authorization_servers ?? [])
    assertFetchable('authorization_servers', server);
  for (const name of ['jwks_uri', 'resource_policy_uri', 'resource_tos_uri'] as const) {
    const uri = metadata[name];
    if (uri !== undefined) assertFetchable(name, uri);
  }
  if (metadata.bearer_methods_supported?.some((method) => method !== 'header'))
    throw new TypeError("bearer_methods_supported must be ['header']");
  const complete = { ...metadata, bearer_methods_supported: ['header'] };
  return Object.fromEntries(
    Object.entries(complete).filter(
      ([, value]) => value !== undefined && !(Array.isArray(value) && value.length === 0),
    ),
  ) as unknown as ProtectedResourceMetadata;
}

/** Where the metadata of a resource is found: the well-known path before the resource's own (RFC 9728 §3.1). */
export function protectedResourceMetadataUrl(resource: string): string {
  assertFetchable('resource', resource);
  const { origin, pathname, search } = new URL(resource);
  return `${origin}${WELL_KNOWN}${pathname === '/' ? '' : pathname}${search}`;
}
