-- erase: erases some events: their payload is replaced, and what would still be sent of them ends cancelled.
-- KEYS  1 log, 2 meta, 3 kept frames, 4 kept ids, 5 aside, 6 targets, 7 bell, then all keys of each target
-- ARGV  1 clock offset ms, 2 our lease, 3 how many targets; their names (groups); then for each event: id, and what is to be
--       kept of its frame ('' : it is known no more, and only leaves the log)
-- An entry that is deleted stays in its node of the log, byte for byte, until the last entry of the node is deleted. So
-- whole nodes are emptied: the neighbours of an erased event are put aside, and whoever has not reached them takes them
-- from there, at their place. In flight they go on, with a record.
-- An erased event is in no target's backlog. One that is in flight has the reason `erased`, and ends by it (settle).
-- Returns {erased, in flight, nodes that could not be emptied} or {} where a target is not among KEYS.

local ev, meta, fr, kept, aside, bell = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[7]
local now = real_ms() + tonumber(ARGV[1])
local NEIGHBOURS_MAX = 1000 -- on each side; a node holds 100, or as many as its server is set to
local targets = {}
for i = 1, tonumber(ARGV[3]) do
  local t = target_at(8 + TARGET_KEYS * (i - 1))
  t.name, t.is = ARGV[3 + i], own_of(t)
  targets[i] = t
end
if #targets ~= redis.call('SCARD', KEYS[6]) then return {} end
local floor = hex_of(redis.call('HGET', meta, 'floor') or '0-0')
local erased, in_flight, left, ring = 0, 0, 0, false

local function nodes()
  local info = redis.pcall('XINFO', 'STREAM', ev)
  if info.err then return 0 end -- there is no log
  for i = 1, #info, 2 do
    if info[i] == 'radix-tree-keys' then return info[i + 1] end
  end
end

-- What is in flight from the log gets a record: the log is about to lose its entry.
local function hold(id, sid, kind, subject)
  for _, t in ipairs(targets) do
    local found = redis.pcall('XPENDING', ev, t.name, sid, sid, 1)
    if found and not found.err and found[1] then
      redis.call('HSET', t.act, id, found[1][2] .. ':0')
      move(t, id, new_record(now, lane_of(t.is, kind, subject)), nil, 'f', now)
      redis.call('XACK', ev, t.name, sid)
    end
  end
end

local function keep(id, kind, subject, frame)
  redis.call('HSET', fr, id, #kind .. ' ' .. #subject .. ' ' .. kind .. subject .. frame)
  redis.call('ZADD', kept, ms_of(id), id)
end

-- A neighbour leaves the log. Up to the floor it was put aside long ago, or is gone.
local function put_aside(entry)
  local id, v = hex_of(entry[1]), entry[2]
  if id > floor then
    keep(id, v[2], v[4], v[6])
    redis.call('ZADD', aside, ms_of(id), id)
    hold(id, entry[1], v[2], v[4])
  end
  redis.call('XDEL', ev, entry[1])
end

-- Puts aside entry by entry, in one direction, until a node is empty. Tells whether one was, or nothing is left there.
local function empty_one(read)
  local count = nodes()
  for _ = 1, NEIGHBOURS_MAX do
    local entry = read()
    if not entry then return true end
    put_aside(entry)
    if nodes() < count then return true end
  end
  return false
end

-- Takes the entry out of the log, and its node with it: forward to the end of a node, then back to the beginning of one.
local function purge(sid)
  local count = nodes()
  if redis.call('XDEL', ev, sid) == 0 or nodes() < count then return end
  local forward = empty_one(function() return redis.call('XRANGE', ev, '(' .. sid, '+', 'COUNT', 1)[1] end)
  local back = empty_one(function() return redis.call('XREVRANGE', ev, '(' .. sid, '-', 'COUNT', 1)[1] end)
  if not forward or not back then left = left + 1 end
end

-- Ends the delivery to `t`, or notes that it will end.
local function end_delivery(t, id, is_new)
  local r = parse(redis.call('HGET', t.rec, id))
  local attempts = redis.call('HGET', t.att, id)
  if attempts then redis.call('HSET', t.att, id, without_replies(attempts)) end
  local is_unreached = is_new and id > hex_of(t.is.cursor) and t.is.standing ~= 'forgotten' and t.is.standing ~= 'unknown'
  if is_unreached then redis.call('HINCRBY', t.own, 'passed', 1) end
  if not r then
    if not is_unreached then return end
    r = new_record(now, '')
    r.reason = 'erased'
    move(t, id, r, nil, 'c', now)
  elseif r.state == 'f' then
    in_flight = in_flight + 1
    r.reason = 'erased'
    redis.call('HSET', t.rec, id, text_of(r))
  elseif INDEX[r.state] then
    local from = r.state
    r.reason, r.due = 'erased', '0'
    move(t, id, r, from, 'c', now)
    if r.lane ~= '' and release(t, r.lane, now) then ring = true end
  end
end

for a = 4 + #targets, #ARGV, 2 do
  local id, frame = ARGV[a], ARGV[a + 1]
  local sid = stream_of(id)
  local event = frame ~= '' and event_of(ev, fr, id)
  if not event then
    purge(sid)
  else
    local is_new = not is_erased(event.frame)
    if is_new then
      keep(id, event.kind, event.subject, frame)
      hold(id, sid, event.kind, event.subject)
      redis.call('ZREM', aside, id)
      purge(sid)
      erased = erased + 1
    end
    for _, t in ipairs(targets) do end_delivery(t, id, is_new) end
  end
end
redis.call('HSET', meta, 'schema', 2) -- a release that does not know what is put aside would pass it over
if ring then redis.call('PUBLISH', bell, ARGV[2]) end
return { erased, in_flight, left }
