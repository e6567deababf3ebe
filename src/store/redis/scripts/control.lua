-- control: pauses or resumes a target, or turns its breaker.
-- KEYS  1 meta, 2 bell, 3… the target's
-- ARGV  1 clock offset ms, 2 our lease, 3 what (pause, resume, open, close), 4 why it is paused, or the revision of the
--       breaker that the turn was decided upon, 5 ms until the next probe, or ms over which what waits becomes due
-- What waits for later than the span becomes due within it, at most 1,000 at a time.
-- Returns changed, unchanged, refused; or more: closed, and called again with `spread` it goes on with what waits.

local meta, bell, t = KEYS[1], KEYS[2], target_at(3)
local what, detail, span = ARGV[3], ARGV[4], tonumber(ARGV[5])
local now = real_ms() + tonumber(ARGV[1])
local STEP = 1000
local own = own_of(t)
if own.standing == 'unknown' or own.standing == 'forgotten' then return 'refused' end

local function tell()
  redis.call('HINCRBY', meta, 'revision', 1)
  redis.call('PUBLISH', bell, ARGV[2])
end

-- Brings what waits for later than `span` forward, spread evenly.
local function spread()
  local later = redis.call('ZRANGEBYSCORE', t.due, '(' .. number(now + span), '+inf', 'LIMIT', 0, STEP)
  for i, id in ipairs(later) do
    local r = parse(redis.call('HGET', t.rec, id))
    local due = number(now + math.floor(span * (i - 1) / #later))
    if r then
      r.due = due
      redis.call('HSET', t.rec, id, text_of(r))
      redis.call('ZADD', t.due, due, id)
    else
      redis.call('ZREM', t.due, id)
    end
  end
  tell()
  return #later == STEP and 'more' or 'changed'
end

if what == 'pause' or what == 'resume' then
  local paused = what == 'pause' and (own.paused ~= '' and own.paused or detail) or '' -- the first reason stays
  if paused == own.paused then return 'unchanged' end
  redis.call('HSET', t.own, 'paused', paused)
  tell()
  return 'changed'
end

if what == 'spread' then return spread() end
if own.revision ~= detail then return 'refused' end
if what == 'close' then
  if own.phase == 'closed' then return 'unchanged' end
  redis.call('HSET', t.own, 'phase', 'closed', 'since', number(now), 'failed', '0', 'probe_at', '0')
  redis.call('HINCRBY', t.own, 'revision', 1)
  return spread()
end
if own.phase == 'open' then
  if span > 0 then redis.call('HINCRBY', t.own, 'failed', 1) end -- 0: the last probe came to no attempt
else
  redis.call('HSET', t.own, 'phase', 'open', 'since', number(now), 'failed', '0')
end
redis.call('HSET', t.own, 'probe_at', number(now + span))
redis.call('HINCRBY', t.own, 'revision', 1)
tell()
return 'changed'
