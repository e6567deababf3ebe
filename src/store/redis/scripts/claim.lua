-- claim: leases deliveries of one target.
-- KEYS  1 log, 2 meta, 3 kept frames, 4 relays, 5 aside, 6… the target's
-- ARGV  1 clock offset ms, 2 group, 3 our lease, 4 number of this claim, 5 leases at most, 6 frame bytes at most,
--       7 scope (ready, older), 8 age ms, 9 whether the target is ordered (1, 0), 10 types that ordering leaves alone (one a
--       line), 11 our declaration, 12 which kind comes first (new, due), 13 how long a probe holds off others, ms,
--       14 the largest frame seen lately, bytes
-- What it gives is in flight: new ones in the group's pending list under our lease, others with a record and `act`. The log
-- is the stream, and what an erasure put aside of it: both are taken in the order of ids.
-- Returns {status, now, more (1, 0), ms until the next is due (-1: none), cursor, revision, phase, since, failed, probe_at,
--   leases}, each lease {stream id, number (0: pending in the group), type, lane text, record, attempts, frame}; or
--   {'expired'}: our lease is not alive; {'nogroup'}: the group is gone; {'adopt'}: the target's lanes must be made anew.

local ev, meta, fr, relays, aside, t = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], target_at(6)
local group, lease, claim_number = ARGV[2], ARGV[3], ARGV[4]
local leases_max, bytes_max = tonumber(ARGV[5]), tonumber(ARGV[6])
local scope, age, probe_hold, largest = ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[13]), tonumber(ARGV[14])
local real = real_ms()
local now = real + tonumber(ARGV[1])
local LOOKED_AT_PER_LEASE = 4 -- of an ordered target; the others are parked or put off
local LOOK_AGAIN_MS = 500     -- what its lane keeps back stands in nobody's way for so long
local BULK = 16               -- entries read at once where they surely fit

local alive = redis.call('ZSCORE', relays, lease)
if not alive or tonumber(alive) < real then return { 'expired' } end

local own = own_of(t)
local added = tonumber(redis.call('HGET', meta, 'added') or '0')
local leases, bytes, filled = {}, 0, false
local status = own.standing
if status == 'configured' then status = own.paused ~= '' and 'paused:' .. own.paused or 'active' end

local function answer(more, next_due)
  return { status, number(now), more and 1 or 0, number(next_due), own.cursor, own.revision, own.phase, own.since,
    own.failed, number(own.probe_at), leases }
end

if status == 'unknown' or status == 'forgotten' or (scope == 'ready' and status ~= 'active') then
  return answer(false, -1)
end
if scope == 'ready' and (own.ordering ~= ARGV[9] or (ARGV[9] == '1' and own.unordered ~= ARGV[10]))
  and tonumber(ARGV[11]) >= own.ordered_by then
  return { 'adopt' }
end

local probing = scope == 'ready' and own.phase == 'open'

-- Until the next probe, where there is anything to probe with.
local function until_probe()
  local anything = added > own.passed or redis.call('ZCARD', t.due) > 0
  return anything and math.max(own.probe_at - now, 0) or -1
end

if probing then
  if now < own.probe_at or leases_max == 0 then return answer(false, until_probe()) end
  leases_max = 1
end

local function fits(frame_bytes)
  if #leases >= leases_max or (#leases > 0 and bytes + frame_bytes > bytes_max) then filled = true end
  return not filled
end

local function give(id, lease_number, kind, subject, record, attempts, frame)
  bytes = bytes + #frame
  leases[#leases + 1] = { stream_of(id), lease_number, kind, subject, record, attempts, frame }
end

-- Takes a delivery that has a record.
local function take_known(id, r, event)
  local before = text_of(r)
  event = event or { kind = '', subject = r.lane, frame = '' }
  redis.call('HSET', t.act, id, lease .. ':' .. claim_number)
  move(t, id, r, r.state, 'f', now)
  give(id, claim_number, event.kind, event.subject, before, redis.call('HGET', t.att, id) or '', event.frame)
end

-- A target that was forgotten and came back meets its own history, which is told here: what had ended begins again, what
-- has not goes on by itself.
local function history(id, sid, lane)
  local old = own.renewed and parse(redis.call('HGET', t.rec, id))
  if not old then return nil end
  redis.call('XACK', ev, group, sid)
  if is_unfinished(old.state) then return old, false end
  old.attempts, old.first, old.taken, old.retried, old.reason, old.lane = '0', '', '0', number(now), '', lane
  return old, true
end

-- A delivery that the group has just given us gets a record in this state instead.
local function record_new(id, sid, lane, state)
  local old, has_ended = history(id, sid, lane)
  if old and not has_ended then return end
  local r = old or new_record(now, lane)
  r.due = number(now)
  move(t, id, r, old and old.state, old and 'w' or state, now)
  redis.call('XACK', ev, group, sid)
end

local function take_new(id, sid, event, lane)
  local old, has_ended = history(id, sid, lane)
  if old then
    if has_ended then take_known(id, old, event) end
    return
  end
  if lane ~= '' then
    redis.call('ZADD', t.lane, 0, lane .. '\0' .. id)
    redis.call('ZADD', t.lanefly, 0, lane .. '\0' .. id)
  end
  give(id, '0', event.kind, event.subject, '', '', event.frame)
end

-- Takes one that was put aside before the target had reached it. Returns false where it must wait.
local function take_aside(id, before)
  if before and ms_of(id) >= before then return false end
  local event, sid = event_of(ev, fr, id), stream_of(id)
  local lane = event and lane_of(own, event.kind, event.subject) or ''
  if lane ~= '' and not before and lane_has(t.lane, lane) then
    record_new(id, sid, lane, 'p')
  elseif event then
    if not fits(#event.frame) then return false end
    local r, has_ended = history(id, sid, lane)
    if not r then
      r = new_record(now, lane)
      r.state, has_ended = 'q', true
    end
    if has_ended then take_known(id, r, event) end
  end
  own.cursor, own.passed = sid, own.passed + 1
  return true
end

local function read(count)
  local reply = redis.pcall('XREADGROUP', 'GROUP', group, lease, 'COUNT', count, 'STREAMS', ev, '>')
  if reply and reply.err then return nil end
  return reply and reply[1][2] or {}
end

-- Takes what the cursor has not reached: all of it, or what was accepted before `before` (ms), whether its lane is held
-- or not. Returns false where the group is gone.
local function new_ones(before)
  local looked_at_max = leases_max - #leases
  if own.ordering == '1' then looked_at_max = looked_at_max * LOOKED_AT_PER_LEASE end
  local near = added > own.passed and looked_at_max > 0 and first_above(aside, hex_of(own.cursor))
  while not filled and #leases < leases_max and looked_at_max > 0 and added > own.passed do
    local count = math.min(looked_at_max, BULK, leases_max - #leases) -- what is read and not leased costs a record
    if near then
      local first = redis.call('XRANGE', ev, '(' .. own.cursor, '+', 'COUNT', 1)[1]
      if not first or near < hex_of(first[1]) then
        if not take_aside(near, before) then break end
        near = first_above(aside, near)
        count = 0
      else
        count = 1
      end
    end
    if count > 0 and (before or near or bytes_max - bytes < 2 * BULK * largest) then
      count = 1
      local first = redis.call('XRANGE', ev, '(' .. own.cursor, '+', 'COUNT', 1)[1]
      if not first then
        own.passed = added -- the log holds less than was added: entries are lost, and nobody may wait for them
        break
      end
      local id = hex_of(first[1])
      if before and ms_of(id) >= before then break end
      local lane = lane_of(own, first[2][2], first[2][4])
      local parks = lane ~= '' and not before and lane_has(t.lane, lane)
      if not parks and not fits(#first[2][6]) then break end
    end
    local entries = {}
    if count > 0 then entries = read(count) end
    if not entries then return false end
    if #entries == 0 and count > 0 then own.passed = added end -- the log has lost some by other hands than ours
    for _, entry in ipairs(entries) do
      local sid, event = entry[1], { kind = entry[2][2], subject = entry[2][4], frame = entry[2][6] }
      local id, lane = hex_of(sid), lane_of(own, event.kind, event.subject)
      if lane ~= '' and not before and lane_has(t.lane, lane) then
        record_new(id, sid, lane, 'p')
      elseif fits(#event.frame) then
        take_new(id, sid, event, lane)
      else
        record_new(id, sid, lane, 'q') -- read in bulk, and larger than any frame lately
      end
      own.cursor, own.passed = sid, own.passed + 1
    end
    looked_at_max = looked_at_max - math.max(#entries, 1)
  end
  return true
end

local function is_blocked(id, r)
  if r.lane == '' then return false end
  if lane_has(t.lanefly, r.lane) then return true end
  return r.retried == '' and lane_has(t.lane, r.lane, id)
end

-- Takes what is due, in the order of due times.
local function due_ones()
  local looked_at_max = leases_max - #leases
  if own.ordering == '1' then looked_at_max = looked_at_max * LOOKED_AT_PER_LEASE end
  if filled or looked_at_max <= 0 then return end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', t.due, '-inf', number(now), 'LIMIT', 0, looked_at_max)) do
    local r = parse(redis.call('HGET', t.rec, id))
    if not r then
      redis.call('ZREM', t.due, id)
    elseif is_blocked(id, r) then
      r.due = number(now + LOOK_AGAIN_MS)
      redis.call('HSET', t.rec, id, text_of(r))
      redis.call('ZADD', t.due, r.due, id)
    else
      local event = event_of(ev, fr, id)
      if not fits(event and #event.frame or 0) then return end
      take_known(id, r, event)
    end
  end
end

-- Takes one delivery to probe with: a new one first, else a queued one, else the least attempted of those due first,
-- whenever it is due.
local function probe()
  if not new_ones() then return false end
  local best, fewest
  local function consider(ids, by_attempts)
    for _, id in ipairs(ids) do
      local r = #leases == 0 and parse(redis.call('HGET', t.rec, id))
      if r and not is_blocked(id, r) then
        local attempts = by_attempts and tonumber(r.attempts) or -1
        if not fewest or attempts < fewest then best, fewest = { id, r }, attempts end
      end
    end
  end
  consider(redis.call('ZRANGE', t.queued, 0, 99), false)
  if not best then consider(redis.call('ZRANGE', t.due, 0, 99), true) end
  if best then take_known(best[1], best[2], event_of(ev, fr, best[1])) end
  if #leases > 0 then
    own.probe_at = now + probe_hold
    redis.call('HSET', t.own, 'probe_at', number(own.probe_at))
  end
  return true
end

local function older_ones()
  local cutoff = now - age
  for _, index in ipairs({ 'queued', 'waiting', 'parked' }) do
    local looked_at_max = (leases_max - #leases) * LOOKED_AT_PER_LEASE + 64
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', t[index], '-inf', '(' .. number(cutoff), 'LIMIT', 0, looked_at_max)) do
      local r = parse(redis.call('HGET', t.rec, id))
      if r and (r.retried == '' or tonumber(r.retried) < cutoff) then
        local event = event_of(ev, fr, id)
        if not fits(event and #event.frame or 0) then return true end
        take_known(id, r, event)
      end
    end
  end
  if not new_ones(cutoff) then return false end
  local first = redis.call('XRANGE', ev, '(' .. own.cursor, '+', 'COUNT', 1)[1]
  local near = first_above(aside, hex_of(own.cursor))
  if (first and ms_of(hex_of(first[1])) < cutoff) or (near and ms_of(near) < cutoff) then filled = true end
  return true
end

local passed, is_there = own.passed, true
if scope == 'older' then
  is_there = older_ones()
elseif probing then
  is_there = probe()
elseif ARGV[12] == 'new' then
  is_there = new_ones()
  if is_there then due_ones() end
else
  due_ones()
  is_there = new_ones()
end
if own.passed ~= passed then redis.call('HSET', t.own, 'cursor', own.cursor, 'passed', number(own.passed)) end
if not is_there then
  -- What was leased so far is not told to anybody; the audit gives it back.
  return { 'nogroup' }
end

if scope == 'older' then return answer(filled, -1) end
if probing then return answer(false, #leases > 0 and until_probe() or -1) end
local first = redis.call('ZRANGE', t.due, 0, 0, 'WITHSCORES')[2]
local wait = first and tonumber(first) - now
if added > own.passed or (wait and wait <= 0) then return answer(true, -1) end
return answer(false, wait or -1)
