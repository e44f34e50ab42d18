import type { Adapter, AdapterFactory, AdapterPayload } from 'oidc-provider';

/**
 * Where the authorization server keeps what it issued. oidc-provider's own memory adapter holds a thousand entries and
 * belongs to one provider; this one holds them all and survives the provider being replaced when its keys rotate.
 */
export function oauthStorage(): AdapterFactory {
  const entries = new Map<string, { payload: AdapterPayload; expiresAtMs: number }>();

  const live = (key: string): AdapterPayload | undefined => {
    const entry = entries.get(key);
    if (entry && entry.expiresAtMs > Date.now()) return entry.payload;
    entries.delete(key);
    return undefined;
  };
  const find = (model: string, wanted: (payload: AdapterPayload) => boolean) => {
    for (const key of entries.keys()) {
      const payload = key.startsWith(`${model}:`) ? live(key) : undefined;
      if (payload && wanted(payload)) return payload;
    }
    return undefined;
  };

  return (model): Adapter => ({
    upsert: async (id, payload, expiresInSeconds) => {
      const expiresAtMs =
        expiresInSeconds === undefined
          ? Number.POSITIVE_INFINITY
          : Date.now() + expiresInSeconds * 1000;
      entries.set(`${model}:${id}`, { payload, expiresAtMs });
    },
    find: async (id) => live(`${model}:${id}`),
    findByUid: async (uid) => find(model, (payload) => payload.uid === uid),
    findByUserCode: async (userCode) => find(model, (payload) => payload.userCode === userCode),
    consume: async (id) => {
      const payload = live(`${model}:${id}`);
      if (payload) payload.consumed = Math.floor(Date.now() / 1000);
    },
    destroy: async (id) => {
      entries.delete(`${model}:${id}`);
    },
    revokeByGrantId: async (grantId) => {
      for (const [key, { payload }] of entries) {
        if (payload.grantId === grantId) entries.delete(key);
      }
    },
  });
}
