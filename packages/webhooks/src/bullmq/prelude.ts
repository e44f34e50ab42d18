/** Lua that scripts of the ledger begin with: the time, by Redis' clock. */
export const clock = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
`;

/** Lua that has somebody come for an endpoint. After {@link clock}. */
export const waking = `
-- Has somebody come when something is to be done, unless somebody comes anyway. For an endpoint that must not be called that
-- is when the first of what waits runs out. Returns the number of the drain job to queue, or 0, and how long until then.
local function wake(keys, endpoint, retentionMs, force)
  local due, ep, wakes = unpack(keys)
  local state = redis.call('HMGET', ep, 'active', 'paused', 'gone', 'notBefore', 'penalty')
  if tonumber(state[1] or 0) > now then return { 0, 0 } end
  local at = math.max(now, tonumber(state[4] or 0), tonumber(state[5] or 0))
  if state[2] or state[3] then
    local first = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')
    if #first == 0 then return { 0, 0 } end
    at = math.max(now, first[2] + retentionMs)
  end
  local planned = tonumber(redis.call('ZSCORE', wakes, endpoint) or -1)
  if planned >= 0 and planned <= at and not force then return { 0, 0 } end
  redis.call('ZADD', wakes, at, endpoint)
  -- From the time on: an endpoint that was forgotten and is there again must not meet the jobs of before.
  redis.call('HSETNX', ep, 'seq', string.format('%.0f', now))
  return { redis.call('HINCRBY', ep, 'seq', 1), at - now }
end
`;
