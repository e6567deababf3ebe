-- settle: applies decided transitions of one target, each under its lease.
-- KEYS  1 log, 2 bell, 3… the target's, then the marks of events that die
-- ARGV  1 clock offset ms, 2 group, 3 our lease, 4 how long a dead letter's mark must live, ms; then for each delivery:
--       id, stream id, lease, number of its claim (0: pending in the group), new state, ms until it is due, the record's
--       fields from `attempts` to `only`, attempts ('' : unchanged), type, lane text, which mark is its own (0: none)
-- A lease that is not held is lost and changes nothing; every other is applied whole. A forgotten target's unfinished
-- deliveries end cancelled, and so do those whose event was erased meanwhile.
-- Returns {1 where something is ready at once, else 0; then for each delivery 'done' or 'lost'}.

local ev, bell, t = KEYS[1], KEYS[2], target_at(3)
local group, us, dead_ms = ARGV[2], ARGV[3], tonumber(ARGV[4])
local now = real_ms() + tonumber(ARGV[1])
local own, results, ring = own_of(t), {}, false
local MARKS = 3 + TARGET_KEYS - 1

local function is_pending(sid, lease)
  local found = redis.pcall('XPENDING', ev, group, sid, sid, 1, lease)
  return found and not found.err and #found > 0
end

-- Takes the delivery out of flight where it is held under this lease; returns its state in the indexes, or nothing.
local function let_go(id, sid, lease, claim_number)
  if redis.call('HGET', t.act, id) == lease .. ':' .. claim_number then
    redis.call('HDEL', t.act, id)
    return 'f'
  end
  if claim_number == '0' and is_pending(sid, lease) then
    redis.call('XACK', ev, group, sid)
    return 'pending'
  end
end

local function keep_mark(id, index)
  local key = KEYS[MARKS + index]
  local mark = redis.call('GET', key)
  if not mark or string.sub(mark, 1, 20) ~= id then return end
  local life = redis.call('PTTL', key)
  local until_ms = math.max(tonumber(string.sub(mark, 46)) or 0, now + dead_ms)
  redis.call('SET', key, string.sub(mark, 1, 44) .. ';' .. number(until_ms), 'PX', number(math.max(life, dead_ms, 1)))
end

for a = 5, #ARGV, 11 do
  local id, sid, state, after, fields = ARGV[a], ARGV[a + 1], ARGV[a + 4], tonumber(ARGV[a + 5]), ARGV[a + 6]
  local attempts, kind, subject, mark = ARGV[a + 7], ARGV[a + 8], ARGV[a + 9], tonumber(ARGV[a + 10])
  local from = let_go(id, sid, ARGV[a + 2], ARGV[a + 3])
  if not from then
    results[#results + 1] = 'lost'
  else
    if own.standing == 'forgotten' and (state == 'q' or state == 'w') then state = 'c' end
    local lane = lane_of(own, kind, subject)
    local before = from == 'f' and parse(redis.call('HGET', t.rec, id))
    local erased = before and before.reason == 'erased'
    if erased and state ~= 'd' and state ~= 's' then state = 'c' end
    if before and before.lane ~= '' and before.lane ~= lane then
      local member = before.lane .. '\0' .. id
      for _, key in ipairs({ t.lane, t.lanefly, t.lanepark }) do redis.call('ZREM', key, member) end
      if release(t, before.lane, now) then ring = true end
    end
    local due = (state == 'q' or state == 'w') and number(now + after) or '0'
    local r = parse(table.concat({ state, due, number(now), fields, lane }, ';'))
    if erased and state == 'c' then r.reason = 'erased' end
    if from == 'pending' and state == 'd' and lane == '' then
      redis.call('HSET', t.rec, id, text_of(r)) -- the plain success, in no index
    else
      move(t, id, r, from == 'f' and 'f' or nil, state, now)
    end
    if attempts ~= '' then redis.call('HSET', t.att, id, erased and without_replies(attempts) or attempts) end
    if state == 'x' and mark > 0 then keep_mark(id, mark) end
    if (state == 'q' or state == 'w') and after <= 0 then ring = true end
    if lane ~= '' and (state == 'x' or not INDEX[state]) and release(t, lane, now) then ring = true end
    results[#results + 1] = 'done'
  end
end
if ring then redis.call('PUBLISH', bell, us) end
return { ring and 1 or 0, unpack(results) }
