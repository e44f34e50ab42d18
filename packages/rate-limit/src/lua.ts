import { longestRestrictionMs } from './record.ts';
import { longestDebtSeconds } from './token-bucket.ts';

/**
 * The algorithms once more, for Redis. Each function here has its twin in TypeScript (`record.ts` and one file per kind), with the
 * same arithmetic in the same order: the model-based suite demands the same answers from both.
 *
 * A record is one flat array, read and written by one `struct` call: version, number of policies, allowance and end of the
 * restriction (not stored where both are 0), and five numbers for each policy (`o` is where they begin): kind, window, at, used, previous. Kinds: 1 token bucket,
 * 2 sliding window, 3 fixed window, 4 sliding log, 5 concurrency. The last two also have a list of pairs each, behind the array. A log
 * stays as it is stored, so that a check costs what it changes and not what there is; slots become a table.
 */
export const prelude: string = `
local time = redis.call('TIME')
local redis_now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local never = 1 / 0
local call, ceil, floor, max, min, fmod = redis.call, math.ceil, math.floor, math.max, math.min, math.fmod
local pack, unpack_from, byte, sub = struct.pack, struct.unpack, string.byte, string.sub
local header = 4
-- Bytes of a log's entry.
local log_entry = 12
local specs, requests, formats, lives = {}, {}, {}, {}
local one_policy, two_policies = '<BBBdddd', '<BBBddddBdddd'
-- Versions of records: without a restriction, and with one. What is short is much cheaper to keep.
local plain, paused = 2, 3
local largest_entry, longest_debt, longest_restriction = 2 ^ 32 - 1, ${longestDebtSeconds}, ${longestRestrictionMs * 1000}

local function parse_policies(spec)
  local policies = {scalar = true}
  for kind, window, limit, rate in string.gmatch(spec, '(%d):([^:]+):([^:]+):([^;]+);') do
    policies[#policies + 1] = {
      kind = tonumber(kind), window = tonumber(window), limit = tonumber(limit), rate = tonumber(rate),
    }
    policies.scalar = policies.scalar and tonumber(kind) <= 3
  end
  specs[spec] = policies
  return policies
end

local function parse(text)
  local operation, cost, slot, moment, spec = string.match(text, '^(%l+) (%S+) (%S+) (%S*) (.*)$')
  local request = {
    operation = operation, cost = tonumber(cost), slot = tonumber(slot), now = tonumber(moment) or redis_now,
    -- A moment that was handed in stands still while Redis' clock, which ends keys, goes on.
    grace = moment == '' and 0 or 60000,
    policies = specs[spec] or parse_policies(spec),
  }
  requests[text] = request
  return request
end

local function format_of(count)
  local format = string.rep('Bdddd', count)
  formats[count] = format
  return format
end

local function load(value)
  local version, count = byte(value, 1, 2)
  if version ~= plain and version ~= paused then error('rate-limit record of version ' .. version) end
  local format = formats[count] or format_of(count)
  local record
  if version == plain then
    record = {plain, count, 0, 0, unpack_from('<' .. format, value, 3)}
  else
    record = {unpack_from('<BBdd' .. format, value)}
  end
  local last = header + 5 * count + 1
  local position, lists = record[last]
  record[last] = nil
  for index = 1, position <= #value and count or 0 do
    local kind = record[header + 5 * index - 4]
    if kind >= 4 then
      local size
      size, position = unpack_from('<I4', value, position)
      lists = lists or {}
      if kind == 4 then
        lists[index] = sub(value, position, position + size * log_entry - 1)
        position = position + size * log_entry
      else
        local entries = {}
        for entry = 1, size * 2, 2 do
          entries[entry], entries[entry + 1], position = unpack_from('<dd', value, position)
        end
        lists[index] = entries
      end
    end
  end
  if position ~= #value + 1 then error('rate-limit record of another length') end
  return record, lists
end

local function dump(record, lists)
  local count = record[2]
  local format = formats[count] or format_of(count)
  local fixed
  if record[4] == 0 then
    fixed = pack('<BB' .. format, plain, count, unpack(record, header + 1))
  else
    record[1] = paused
    fixed = pack('<BBdd' .. format, unpack(record))
  end
  if not lists then return fixed end
  local parts = {fixed}
  for index = 1, count do
    local kind, entries = record[header + 5 * index - 4], lists[index]
    if kind == 4 then
      parts[#parts + 1] = pack('<I4', #entries / log_entry)
      parts[#parts + 1] = entries
    elseif kind == 5 then
      parts[#parts + 1] = pack('<I4', #entries / 2)
      for entry = 1, #entries, 2 do
        parts[#parts + 1] = pack('<dd', entries[entry], entries[entry + 1])
      end
    end
  end
  return table.concat(parts)
end

-- The moment and the cost of the entry that begins at a place of a log.
local function entry_at(log, place)
  local at, cost = unpack_from('<dI4', log, place)
  return at, cost
end

-- Answers whether the record said what cannot be, and was corrected.
local function advance(record, lists, index, rate, now)
  local o = header + 5 * index - 4
  local kind, window, at = record[o], record[o + 1], record[o + 2]
  if kind == 1 then
    if now > at then record[o + 3] = max(0, record[o + 3] - ((now - at) * rate) / 1000000) end
    local level = record[o + 3]
    record[o + 3] = min(level, rate * longest_debt)
    record[o + 2] = now
    return now < at or record[o + 3] < level
  end
  if kind <= 3 then
    if now >= at and now < at + window then return false end
    local start = now - fmod(now, window)
    if start > at then
      record[o + 4] = start == at + window and record[o + 3] or 0
      record[o + 3] = 0
    else
      record[o + 3], record[o + 4] = record[o + 3] + record[o + 4], 0
    end
    record[o + 2] = start
    return start < at
  end
  if kind == 4 then
    local log, first, ahead = lists[index], 1, 0
    while first <= #log do
      local moment, cost = entry_at(log, first)
      if moment > now - window then break end
      record[o + 3] = record[o + 3] - cost
      first = first + log_entry
    end
    if first > 1 then log = sub(log, first) end
    while ahead < #log and entry_at(log, #log - ahead - log_entry + 1) > now do ahead = ahead + log_entry end
    if ahead > 0 then
      local parts = {sub(log, 1, -ahead - 1)}
      for place = #log - ahead + 1, #log, log_entry do
        local _, cost = entry_at(log, place)
        parts[#parts + 1] = pack('<dI4', now, cost)
      end
      log = table.concat(parts)
    end
    lists[index] = log
    return ahead > 0
  end
  local entries, kept, corrected = lists[index], 0, false
  for entry = 1, #entries, 2 do
    local slot, ends = entries[entry], entries[entry + 1]
    if ends > now then
      entries[kept + 1], entries[kept + 2] = slot, min(ends, now + window)
      corrected = corrected or ends > now + window
      kept = kept + 2
    end
  end
  for entry = #entries, kept + 1, -1 do entries[entry] = nil end
  return corrected
end

local function drain_us(tokens, rate)
  return ceil((max(0, tokens - 0.000001 / 2) * 1000000) / rate)
end

local function wait_us(record, o, entries, policy, now, cost)
  local kind, limit, window = policy.kind, policy.limit, policy.window
  if kind == 5 then
    local held = #entries / 2
    if held < limit then return 0 end
    local ends = {}
    for index = 2, #entries, 2 do ends[#ends + 1] = entries[index] end
    table.sort(ends)
    return ends[held - limit + 1] - now
  end
  if cost > limit then return never end
  local used = record[o + 3]
  if kind == 1 then
    local missing = used + cost - limit
    if missing <= 0.000001 then return 0 end
    return drain_us(missing, policy.rate)
  elseif kind == 2 then
    local previous = record[o + 4]
    local elapsed = now - record[o + 2]
    local weighted = (previous * (window - elapsed)) / window
    if weighted + used + cost <= limit + 0.000001 then return 0 end
    local room = limit - used - cost
    if room >= 0 then return ceil(window - (room * window) / previous) - elapsed end
    local next_room = limit - cost
    local into_next = ceil(window - (next_room * window) / used)
    return window - elapsed + max(0, into_next)
  elseif kind == 3 then
    if used + cost <= limit then return 0 end
    return record[o + 2] + window - now
  end
  local excess = used + cost - limit
  if excess <= 0 then return 0 end
  for place = 1, #entries, log_entry do
    local moment, charged = entry_at(entries, place)
    excess = excess - charged
    if excess <= 0 then return moment + window - now end
  end
  return window
end

local function take(record, lists, index, policy, now, cost, slot)
  local o = header + 5 * index - 4
  local kind, entries = record[o], lists[index]
  if kind == 5 then
    if slot == 0 then return end
    entries[#entries + 1] = slot
    entries[#entries + 1] = now + record[o + 1]
    return
  end
  local used = record[o + 3]
  if kind == 4 then
    if entries ~= '' then
      local moment, charged = entry_at(entries, #entries - log_entry + 1)
      if moment == now or #entries >= 2 * policy.limit * log_entry then
        cost = min(charged + cost, largest_entry)
        used = used - charged
        entries = sub(entries, 1, -log_entry - 1)
      end
    end
    lists[index] = entries .. pack('<dI4', now, cost)
  end
  record[o + 3] = used + cost
  if kind == 1 then record[o + 3] = min(record[o + 3], policy.rate * longest_debt) end
end

local function give(record, lists, index, cost, slot)
  local o = header + 5 * index - 4
  local kind, used, entries = record[o], record[o + 3], lists[index]
  if kind == 5 then
    for entry = #entries - 1, 1, -2 do
      if entries[entry] == slot then
        table.remove(entries, entry)
        table.remove(entries, entry)
      end
    end
  elseif kind == 4 then
    local left, size, rest = min(cost, used), #entries, ''
    record[o + 3] = used - left
    while left > 0 do
      size = size - log_entry
      local moment, charged = entry_at(entries, size + 1)
      if charged > left then rest = pack('<dI4', moment, charged - left) end
      left = left - min(charged, left)
    end
    lists[index] = sub(entries, 1, size) .. rest
  else
    record[o + 3] = max(0, used - cost)
    record[o + 4] = max(0, record[o + 4] - max(0, cost - used))
  end
end

local function used_at(record, o, entries, now)
  local kind = record[o]
  if kind == 5 then return #entries / 2 end
  if kind == 2 then
    local window = record[o + 1]
    return (record[o + 4] * (window - (now - record[o + 2]))) / window + record[o + 3]
  end
  return record[o + 3]
end

local function clear_us(record, o, entries, rate, now)
  local kind, window, at, used = record[o], record[o + 1], record[o + 2], record[o + 3]
  if kind == 1 then return drain_us(used, rate) end
  if kind == 2 then
    local left = window - (now - at)
    if used > 0 then return left + window end
    return record[o + 4] > 0 and left or 0
  end
  if kind == 3 then return used > 0 and at + window - now or 0 end
  if kind == 4 then
    return entries == '' and 0 or entry_at(entries, #entries - log_entry + 1) + window - now
  end
  local latest = now
  for index = 2, #entries, 2 do latest = max(latest, entries[index]) end
  return latest - now
end

local no_lists = {}

-- Carries what was used over to other policies: to the one of the same kind and window, else to the next one of the same kind,
-- where it counts as used as late as it may have been.
local function adopt(old, old_lists, policies, now)
  local record = {old[1], #policies, old[3], old[4]}
  local lists, taken = {}, {}
  local function take_over(kind, window)
    for index = 1, old[2] do
      local o = header + 5 * index - 4
      if not taken[index] and old[o] == kind and (window == nil or old[o + 1] == window) then
        taken[index] = true
        return index
      end
    end
  end
  local exact = {}
  for index, policy in ipairs(policies) do
    exact[index] = take_over(policy.kind, policy.window)
  end
  for index, policy in ipairs(policies) do
    local o = header + 5 * index - 4
    local kind, window = policy.kind, policy.window
    record[o], record[o + 1], record[o + 2], record[o + 3], record[o + 4] = kind, window, 0, 0, 0
    if kind >= 4 then lists[index] = kind == 4 and '' or {} end
    local other = exact[index] or take_over(kind)
    if other then
      local from = header + 5 * other - 4
      if exact[index] then
        for part = 2, 4 do record[o + part] = old[from + part] end
      elseif kind == 2 or kind == 3 then
        advance(old, no_lists, other, 0, now)
        advance(record, no_lists, index, 0, now)
        local at, start = old[from + 2], record[o + 2]
        if at > start then
          record[o + 3] = ceil(used_at(old, from, nil, now))
        else
          record[o + 3] = old[from + 3]
          record[o + 4] = at > start - window and old[from + 4] or 0
        end
      else
        record[o + 3] = old[from + 3]
      end
      if kind >= 4 then lists[index] = old_lists[other] end
    end
  end
  return record, lists
end

local function matches(record, policies)
  if record[2] ~= #policies then return false end
  for index = 1, #policies do
    local o, policy = header + 5 * index - 4, policies[index]
    if record[o] ~= policy.kind or record[o + 1] ~= policy.window then return false end
  end
  return true
end

local empty = {plain, 0, 0, 0}

local function fetch(record, lists, policies, now)
  local same = matches(record, policies)
  if not same then record, lists = adopt(record, lists, policies, now) end
  lists = lists or no_lists
  local latest = now + longest_restriction
  local corrected = record[4] > latest
  if record[4] <= now then record[3], record[4] = 0, 0 else record[4] = min(record[4], latest) end
  for index = 1, #policies do
    corrected = advance(record, lists, index, policies[index].rate, now) or corrected
  end
  return record, lists, same, corrected
end

-- A time to live in whole seconds, rounded up: most keys of a round trip share one, and Redis need not format it again.
local function life(clear, grace)
  local seconds = ceil(clear / 1000000)
  local ms = lives[seconds] or string.format('%.0f', seconds * 1000 + grace)
  lives[seconds] = ms
  return ms
end

-- Charges one bucket or window and returns its new state, what is left, and how long until it is clear; nothing when its record
-- is not in order or it does not grant. The same arithmetic as above, in the same order.
local function charged(policy, kind, window, at, used, previous, now, cost)
  local limit = policy.limit
  if kind ~= policy.kind or window ~= policy.window or now < at or cost > limit then return nil end
  if kind == 1 then
    local rate = policy.rate
    used = used - ((now - at) * rate) / 1000000
    if used < 0 then used = 0 end
    if used + cost - limit > 0.000001 then return nil end
    used = used + cost
    return now, used, previous, limit - used, drain_us(used, rate)
  end
  if now >= at + window then
    local start = now - fmod(now, window)
    previous = start == at + window and used or 0
    at, used = start, 0
  end
  local left = window - (now - at)
  if kind == 2 then
    local weighted = (previous * left) / window
    if weighted + used + cost > limit + 0.000001 then return nil end
    used = used + cost
    return at, used, previous, limit - (weighted + used), left + window
  end
  if used + cost > limit then return nil end
  used = used + cost
  return at, used, previous, limit - used, left
end

-- The common cases without a table: one or two buckets or windows that all grant. Answers nothing, having changed nothing, when
-- it is another case.
local function take_at_once(key, value, policies, now, cost, grace)
  local p, q = policies[1], policies[2]
  local count, version, number = #policies
  if value then
    version, number = byte(value, 1, 2)
    if version ~= plain or number ~= count then return nil end
  end
  local kind, window, at, used, previous = p.kind, p.window, 0, 0, 0
  local left, clear, _
  if count == 1 then
    if value then _, _, kind, window, at, used, previous = unpack_from(one_policy, value) end
    at, used, previous, left, clear = charged(p, kind, window, at, used, previous, now, cost)
    if not at then return nil end
    call('SET', key, pack(one_policy, plain, 1, kind, window, at, used, previous), 'PX', life(clear, grace))
    return pack('<Bdd', 1, left, clear)
  end
  local kind2, window2, at2, used2, previous2 = q.kind, q.window, 0, 0, 0
  local left2, clear2
  if value then
    _, _, kind, window, at, used, previous, kind2, window2, at2, used2, previous2 = unpack_from(two_policies, value)
  end
  at, used, previous, left, clear = charged(p, kind, window, at, used, previous, now, cost)
  if not at then return nil end
  at2, used2, previous2, left2, clear2 = charged(q, kind2, window2, at2, used2, previous2, now, cost)
  if not at2 then return nil end
  call('SET', key, pack(two_policies, plain, 2, kind, window, at, used, previous, kind2, window2, at2, used2, previous2),
    'PX', life(clear > clear2 and clear or clear2, grace))
  return pack('<Bdddd', 1, left, clear, left2, clear2)
end

local function store(key, policies, record, lists, clear, now, grace)
  clear = max(clear, record[4] - now)
  if clear == 0 then return call('DEL', key) end
  call('SET', key, dump(record, next(lists) and lists), 'PX', life(clear, grace))
end

local function longest_clear(policies, record, lists, now)
  local clear = 0
  for index = 1, #policies do
    local o = header + 5 * index - 4
    clear = max(clear, clear_us(record, o, lists[index], policies[index].rate, now))
  end
  return clear
end

local function at_length(key, value, request, policies, now)
  local operation, cost, slot, grace = request.operation, request.cost, request.slot, request.grace
  local count, record, lists = #policies, empty
  if value then record, lists = load(value) end
  local same, corrected
  record, lists, same, corrected = fetch(record, lists, policies, now)

  if operation == 'give' then
    for index = 1, count do
      local o = header + 5 * index - 4
      if record[o] == 5 then
        if slot ~= 0 then give(record, lists, index, cost, slot) end
      elseif cost > 0 then
        give(record, lists, index, cost, slot)
      end
    end
    store(key, policies, record, lists, longest_clear(policies, record, lists, now), now, grace)
    return 1
  end

  if operation == 'renew' then
    local renewed = 0
    for index = 1, count do
      local o, entries = header + 5 * index - 4, lists[index]
      for entry = 1, record[o] == 5 and #entries or 0, 2 do
        if entries[entry] == slot then
          entries[entry + 1] = now + record[o + 1]
          renewed = 1
        end
      end
    end
    if renewed == 1 then
      store(key, policies, record, lists, longest_clear(policies, record, lists, now), now, grace)
    end
    return renewed
  end

  local restricted = record[4] ~= 0
  if operation == 'restrict' then
    local ends = now + slot * 1000
    if not restricted or cost < record[3] or (cost == record[3] and ends > record[4]) then
      record[3], record[4] = cost, ends
    end
    store(key, policies, record, lists, longest_clear(policies, record, lists, now), now, grace)
    return 1
  end

  local granted = not (restricted and record[3] < cost)
  local paused_us = granted and 0 or record[4] - now
  if granted then
    for index = 1, count do
      if wait_us(record, header + 5 * index - 4, lists[index], policies[index], now, cost) ~= 0 then
        granted = false
        break
      end
    end
  end
  local charge = operation == 'force' or (operation == 'take' and granted)
  if charge then
    if restricted then record[3] = max(0, record[3] - cost) end
  end

  local answer = granted and {1} or {0, paused_us}
  local clear = 0
  for index = 1, count do
    local o, policy = header + 5 * index - 4, policies[index]
    local wait = granted and 0 or wait_us(record, o, lists[index], policy, now, cost)
    if charge then take(record, lists, index, policy, now, cost, slot) end
    local entries = lists[index]
    local remaining = max(0, floor(policy.limit - used_at(record, o, entries, now) + 0.000001))
    if restricted then remaining = min(remaining, record[3]) end
    local own_clear = clear_us(record, o, entries, policy.rate, now)
    clear = max(clear, own_clear)
    answer[#answer + 1] = remaining
    answer[#answer + 1] = restricted and max(own_clear, record[4] - now) or own_clear
    if not granted then answer[#answer + 1] = wait end
  end
  -- Of a refusal too where something was corrected, or it would be corrected again and again, each time from now on; and where
  -- the limits have changed, as what was used counts as used as late as it may have been.
  local changed = not same and value and operation == 'take'
  if charge or changed or (same and corrected) then store(key, policies, record, lists, clear, now, grace) end
  return pack('<B' .. string.rep('d', #answer - 1), unpack(answer))
end
`;

/**
 * Runs once for all calls that travel together; each has one key and one argument, the request: operation, cost (or what
 * remains), slot (or duration in milliseconds), moment in microseconds (empty: Redis' own) and policies, with spaces between.
 *
 * `give`, `renew` and `restrict` answer a number. `take`, `peek` and `force` answer a byte, 1: granted, 0: not, and doubles:
 * granted, for each policy what is left and the time until it is clear; not granted, first how long the subject is paused, and for
 * each policy also how long to wait (infinite: for ever). Times are microseconds; the client rounds.
 */
export const body = `
local function answer(key, request)
  local policies, now = request.policies, request.now
  local value = call('GET', key)
  if request.operation == 'take' and policies.scalar and #policies <= 2 then
    local granted = take_at_once(key, value, policies, now, request.cost, request.grace)
    if granted then return granted end
  end
  return at_length(key, value, request, policies, now)
end

local replies = {}
for index = 1, #KEYS do
  local text = ARGV[index]
  local ok, reply = pcall(answer, KEYS[index], requests[text] or parse(text))
  if not ok then
    local message = type(reply) == 'table' and reply.err or reply
    reply = {err = string.gsub(tostring(message), '[\\r\\n]', ' ')}
  end
  replies[index] = reply
end
return replies
`;
