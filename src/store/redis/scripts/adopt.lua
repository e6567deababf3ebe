-- adopt: makes a target's lanes anew, where its ordering has changed with the configuration.
-- KEYS  1 log, 2 kept frames, 3 bell, 4… the target's
-- ARGV  1 clock offset ms, 2 group, 3 our lease, 4 whether it is ordered (1, 0), 5 types that ordering leaves alone (one a
--       line), 6 our declaration, 7 where to go on ('' : begin; index and place of the call before)
-- Goes through every unfinished delivery, at most 500 at a time; meanwhile claims see the old ordering and ask again.
-- Returns {place} to go on from, or {} when all is done.

local ev, fr, bell, t = KEYS[1], KEYS[2], KEYS[3], target_at(4)
local group = ARGV[2]
local now = real_ms() + tonumber(ARGV[1])
local STEP = 500
local ordered = { ordering = ARGV[4], unordered = ARGV[5] }
local ORDER = { 'pending', 'flying', 'queued', 'waiting', 'parked', 'lanes' }
if ARGV[7] == '' then redis.call('DEL', t.lane, t.lanefly, t.lanepark) end
local from, place = string.match(ARGV[7], '^(%d+) (.*)$')
from, place = tonumber(from or '1'), place or ''

local function lane_of_event(id)
  local event = event_of(ev, fr, id)
  return event and lane_of(ordered, event.kind, event.subject) or ''
end

local function pending()
  local found = redis.pcall('XPENDING', ev, group, place == '' and '-' or '(' .. place, '+', STEP)
  if not found or found.err then return nil end
  for _, entry in ipairs(found) do
    local id = hex_of(entry[1])
    local lane = lane_of_event(id)
    if lane ~= '' then
      redis.call('ZADD', t.lane, 0, lane .. '\0' .. id)
      redis.call('ZADD', t.lanefly, 0, lane .. '\0' .. id)
    end
  end
  return #found == STEP and found[STEP][1] or nil
end

local function records(index)
  local first = place == '' and 0 or tonumber(place)
  local ids, left = redis.call('ZRANGE', t[index], first, first + STEP - 1), 0
  for _, id in ipairs(ids) do
    local r = parse(redis.call('HGET', t.rec, id))
    if r then
      r.lane = lane_of_event(id)
      local state = r.state
      if state == 'p' and r.lane == '' then
        r.due, state, left = number(now), 'w', left + 1
        redis.call('PUBLISH', bell, ARGV[3])
      end
      move(t, id, r, r.state, state, now)
    end
  end
  return #ids == STEP and number(first + STEP - left) or nil
end

-- Whom no unfinished head holds any more is let go: lane by lane, from the first behind `place` on.
local function lanes()
  for _ = 1, STEP do
    local member = redis.call('ZRANGEBYLEX', t.lanepark, place == '' and '-' or '(' .. place .. '\1', '+', 'LIMIT', 0, 1)[1]
    if not member then return nil end
    place = string.sub(member, 1, -22)
    if release(t, place, now) then redis.call('PUBLISH', bell, ARGV[3]) end
  end
  return place
end

local next_place
if ORDER[from] == 'pending' then
  next_place = pending()
elseif ORDER[from] == 'lanes' then
  next_place = lanes()
else
  next_place = records(ORDER[from])
end
if next_place then return { from .. ' ' .. next_place } end
if from < #ORDER then return { from + 1 .. ' ' } end
redis.call('HSET', t.own, 'ordering', ARGV[4], 'unordered', ARGV[5], 'ordered_by', ARGV[6])
return {}
