/**
 * The algorithms once more, for Redis. Each function here has its twin of the same name in TypeScript (`record.ts` and one file
 * per kind), with the same arithmetic in the same order: the model-based suite demands the same answers from both.
 *
 * Kinds: b token bucket, s sliding window, l sliding log, f fixed window, c concurrency.
 */
export const prelude = `
local time = redis.call('TIME')
local redis_now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local never = 1 / 0
local specs = {}

local function parse(spec)
  local policies = specs[spec]
  if policies then return policies end
  policies = {}
  for kind, window, limit, rate in string.gmatch(spec, '(%a):([^:]+):([^:]+):([^;]+);') do
    policies[#policies + 1] = {
      kind = kind, window = tonumber(window), limit = tonumber(limit), rate = tonumber(rate),
    }
  end
  specs[spec] = policies
  return policies
end

local function fresh_state(kind, window)
  local listed = kind == 'l' or kind == 'c'
  return {kind = kind, window = window, at = 0, used = 0, previous = 0, entries = listed and {} or nil}
end

local function load(value)
  local version, allowance, restricted_until = struct.unpack('<Bdd', value)
  if version ~= 1 then error('rate-limit record of version ' .. version) end
  local record = {allowance = allowance, restricted_until = restricted_until, states = {}}
  local position, size = 18, #value
  while position <= size do
    local kind, window
    kind, window, position = struct.unpack('<c1d', value, position)
    local state = fresh_state(kind, window)
    if kind == 's' then
      state.at, state.used, state.previous, position = struct.unpack('<ddd', value, position)
    elseif kind == 'b' or kind == 'f' then
      state.at, state.used, position = struct.unpack('<dd', value, position)
    else
      local count
      state.used, count, position = struct.unpack('<dI4', value, position)
      local format = kind == 'l' and '<dI4' or '<dd'
      for index = 1, count * 2, 2 do
        state.entries[index], state.entries[index + 1], position =
          struct.unpack(format, value, position)
      end
    end
    record.states[#record.states + 1] = state
  end
  return record
end

local function dump(record)
  local parts = {struct.pack('<Bdd', 1, record.allowance, record.restricted_until)}
  for _, state in ipairs(record.states) do
    local kind = state.kind
    if kind == 's' then
      parts[#parts + 1] =
        struct.pack('<c1dddd', kind, state.window, state.at, state.used, state.previous)
    elseif kind == 'b' or kind == 'f' then
      parts[#parts + 1] = struct.pack('<c1ddd', kind, state.window, state.at, state.used)
    else
      local entries = state.entries
      parts[#parts + 1] = struct.pack('<c1ddI4', kind, state.window, state.used, #entries / 2)
      local format = kind == 'l' and '<dI4' or '<dd'
      for index = 1, #entries, 2 do
        parts[#parts + 1] = struct.pack(format, entries[index], entries[index + 1])
      end
    end
  end
  return table.concat(parts)
end

local function drop_first(entries, count)
  local size = #entries
  for index = 1, size do entries[index] = entries[index + count] end
end

-- Answers whether the clock stepped back: that must be remembered even if nothing is charged, or refusals would last until
-- the clock is where it was.
local function advance_state(policy, state, now)
  local kind, window = state.kind, state.window
  local stepped_back = false
  if kind == 'b' then
    if now > state.at then
      state.used = math.max(0, state.used - ((now - state.at) * policy.rate) / 1000000)
    end
    stepped_back = now < state.at
    state.at = now
  elseif kind == 's' then
    local start = now - math.fmod(now, window)
    if start > state.at then
      state.previous = start == state.at + window and state.used or 0
      state.used = 0
    end
    stepped_back = start < state.at
    state.at = start
  elseif kind == 'f' then
    local start = now - math.fmod(now, window)
    if start > state.at then state.used = 0 end
    stepped_back = start < state.at
    state.at = start
  elseif kind == 'l' then
    local entries, gone = state.entries, 0
    while gone < #entries and entries[gone + 1] <= now - window do
      state.used = state.used - entries[gone + 2]
      gone = gone + 2
    end
    if gone > 0 then drop_first(entries, gone) end
    for index = #entries - 1, 1, -2 do
      if entries[index] <= now then break end
      entries[index] = now
      stepped_back = true
    end
  else
    local kept = {}
    for index = 1, #state.entries, 2 do
      local slot, ends = state.entries[index], state.entries[index + 1]
      if ends > now then
        kept[#kept + 1] = slot
        kept[#kept + 1] = math.min(ends, now + window)
        stepped_back = stepped_back or ends > now + window
      end
    end
    state.entries = kept
  end
  return stepped_back
end

local function wait_us(policy, state, now, cost)
  local kind, limit, window = state.kind, policy.limit, state.window
  if kind == 'c' then
    local held = #state.entries / 2
    if held < limit then return 0 end
    local ends = {}
    for index = 2, #state.entries, 2 do ends[#ends + 1] = state.entries[index] end
    table.sort(ends)
    return ends[held - limit + 1] - now
  end
  if cost > limit then return never end
  if kind == 'b' then
    local missing = state.used + cost - limit
    if missing <= 0.000001 then return 0 end
    return math.ceil((missing * 1000000) / policy.rate)
  elseif kind == 's' then
    local elapsed = now - state.at
    local weighted = (state.previous * (window - elapsed)) / window
    if weighted + state.used + cost <= limit + 0.000001 then return 0 end
    local room = limit - state.used - cost
    if room >= 0 then return math.ceil(window - (room * window) / state.previous) - elapsed end
    local next_room = limit - cost
    local into_next = math.ceil(window - (next_room * window) / state.used)
    return window - elapsed + math.max(0, into_next)
  elseif kind == 'f' then
    if state.used + cost <= limit then return 0 end
    return state.at + window - now
  else
    local excess = state.used + cost - limit
    if excess <= 0 then return 0 end
    for index = 1, #state.entries, 2 do
      excess = excess - state.entries[index + 1]
      if excess <= 0 then return state.entries[index] + window - now end
    end
    return window
  end
end

local function take(policy, state, now, cost, slot)
  local kind, entries = state.kind, state.entries
  if kind == 'c' then
    entries[#entries + 1] = slot
    entries[#entries + 1] = now + state.window
    return
  end
  state.used = state.used + cost
  if kind ~= 'l' then return end
  if entries[#entries - 1] == now then
    entries[#entries] = entries[#entries] + cost
  else
    entries[#entries + 1] = now
    entries[#entries + 1] = cost
  end
end

local function give(state, cost, slot)
  local kind, entries = state.kind, state.entries
  if kind == 'c' then
    local kept = {}
    for index = 1, #entries, 2 do
      if entries[index] ~= slot then
        kept[#kept + 1] = entries[index]
        kept[#kept + 1] = entries[index + 1]
      end
    end
    state.entries = kept
  elseif kind == 'l' then
    local left = math.min(cost, state.used)
    state.used = state.used - left
    while left > 0 do
      local charged = entries[#entries]
      if charged <= left then
        entries[#entries] = nil
        entries[#entries] = nil
      else
        entries[#entries] = charged - left
      end
      left = left - math.min(charged, left)
    end
  else
    local from_previous = math.max(0, cost - state.used)
    state.used = math.max(0, state.used - cost)
    if kind == 's' then state.previous = math.max(0, state.previous - from_previous) end
  end
end

local function used_at(state, now)
  if state.kind == 'c' then return #state.entries / 2 end
  if state.kind == 's' then
    return (state.previous * (state.window - (now - state.at))) / state.window + state.used
  end
  return state.used
end

local function clear_us(policy, state, now)
  local kind, window, entries = state.kind, state.window, state.entries
  if kind == 'b' then return math.ceil((state.used * 1000000) / policy.rate) end
  if kind == 's' then
    local left = window - (now - state.at)
    if state.used > 0 then return left + window end
    return state.previous > 0 and left or 0
  end
  if kind == 'f' then return state.used > 0 and state.at + window - now or 0 end
  if kind == 'l' then
    return #entries == 0 and 0 or entries[#entries - 1] + window - now
  end
  local latest = now
  for index = 2, #entries, 2 do latest = math.max(latest, entries[index]) end
  return latest - now
end

local function converted(policy, old, now)
  local state = fresh_state(policy.kind, policy.window)
  if policy.kind == 's' or policy.kind == 'f' then
    advance_state(policy, old, now)
    advance_state(policy, state, now)
    state.used = math.ceil(used_at(old, now))
  else
    state.used = old.used
    state.entries = old.entries
  end
  return state
end

local function take_over(left, kind, window)
  for index = 1, #left do
    local state = left[index]
    if state and state.kind == kind and (window == nil or state.window == window) then
      left[index] = false
      return state
    end
  end
end

local function adopt(record, policies, now)
  local left = record.states
  local exact = {}
  for index, policy in ipairs(policies) do
    exact[index] = take_over(left, policy.kind, policy.window) or false
  end
  local states = {}
  for index, policy in ipairs(policies) do
    local state = exact[index]
    if not state then
      local old = take_over(left, policy.kind)
      state = old and converted(policy, old, now) or fresh_state(policy.kind, policy.window)
    end
    states[index] = state
  end
  record.states = states
end

local function matches(states, policies)
  if #states ~= #policies then return false end
  for index = 1, #states do
    local state, policy = states[index], policies[index]
    if state.kind ~= policy.kind or state.window ~= policy.window then return false end
  end
  return true
end

local function fetch(key, policies, now)
  local value = redis.call('GET', key)
  local record = value and load(value) or {allowance = 0, restricted_until = 0, states = {}}
  if not matches(record.states, policies) then adopt(record, policies, now) end
  local stepped_back = false
  for index = 1, #policies do
    stepped_back = advance_state(policies[index], record.states[index], now) or stepped_back
  end
  return record, stepped_back
end

local function store(key, policies, record, now, grace)
  local clear = math.max(0, record.restricted_until - now)
  for index = 1, #policies do
    clear = math.max(clear, clear_us(policies[index], record.states[index], now))
  end
  if clear == 0 then return redis.call('DEL', key) end
  redis.call('SET', key, dump(record), 'PX', string.format('%.0f', math.ceil(clear / 1000) + grace))
end
`;

/**
 * ARGV: operation, policies, cost (or remaining), slot (or duration in milliseconds), moment in microseconds (empty: Redis' own).
 * `consume` answers `granted, pausedMs` and, for each policy, `remaining, resetMs, retryAfterMs` (-1: never).
 */
export const body = `
local key, operation, policies = KEYS[1], ARGV[1], parse(ARGV[2])
local cost, slot = tonumber(ARGV[3]), tonumber(ARGV[4])
local now = ARGV[5] == '' and redis_now or tonumber(ARGV[5])
-- A moment that was handed in stands still while Redis' clock, which ends keys, goes on.
local grace = ARGV[5] == '' and 0 or 60000

local record, stepped_back = fetch(key, policies, now)
local states = record.states

if operation == 'give' then
  for index = 1, #states do
    if states[index].kind == 'c' then
      if slot ~= 0 then give(states[index], cost, slot) end
    elseif cost > 0 then
      give(states[index], cost, slot)
    end
  end
  store(key, policies, record, now, grace)
  return 1
end

if operation == 'renew' then
  local renewed = 0
  for _, state in ipairs(states) do
    if state.kind == 'c' then
      for index = 1, #state.entries, 2 do
        if state.entries[index] == slot then
          state.entries[index + 1] = now + state.window
          renewed = 1
        end
      end
    end
  end
  if renewed == 1 then store(key, policies, record, now, grace) end
  return renewed
end

local restricted = record.restricted_until > now
if operation == 'restrict' then
  record.allowance = restricted and math.min(record.allowance, cost) or cost
  record.restricted_until = math.max(record.restricted_until, now + slot * 1000)
  store(key, policies, record, now, grace)
  return 1
end

local granted = not (restricted and record.allowance < cost)
local paused_ms = granted and 0 or math.ceil((record.restricted_until - now) / 1000)
if granted then
  for index = 1, #states do
    if wait_us(policies[index], states[index], now, cost) ~= 0 then
      granted = false
      break
    end
  end
end
local charge = operation == 'force' or (operation == 'take' and granted)
if charge and restricted then record.allowance = math.max(0, record.allowance - cost) end

local answer = {granted and 1 or 0, paused_ms}
for index = 1, #states do
  local policy, state = policies[index], states[index]
  local wait = granted and 0 or wait_us(policy, state, now, cost)
  if charge then take(policy, state, now, cost, slot) end
  local remaining = math.max(0, math.floor(policy.limit - used_at(state, now) + 0.000001))
  if restricted then remaining = math.min(remaining, record.allowance) end
  answer[#answer + 1] = remaining
  answer[#answer + 1] = math.ceil(clear_us(policy, state, now) / 1000)
  answer[#answer + 1] = wait == never and -1 or math.ceil(wait / 1000)
end
if charge or stepped_back then store(key, policies, record, now, grace) end
return answer
`;
