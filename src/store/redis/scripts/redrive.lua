-- redrive: retries, replays or cancels chosen deliveries of one target; what is in flight is left alone.
-- KEYS  1 log, 2 bell, 3… the target's, then the marks of the events (the bell again: unknown)
-- ARGV  1 clock offset ms, 2 group, 3 our lease, 4 states that may be changed (letters), 5 what to do (rearm, cancel, seed, begin),
--       6 how long a mark must live at least, ms, 7 only what last changed at or before this, ms ('': all), 8 `count`: change
--       nothing; then for each delivery: id, ms until it is due, type, lane text
-- `rearm` starts the budget again; where `states` holds `-`, a delivery that has no record and that the cursor has passed
-- gets one. `seed` only makes such records, as if they had been queued; `begin` does, and begins again what had ended
-- where the target was forgotten and came back.
-- What is changed counts as changed after 7, even within the same millisecond, so that a repetition leaves it alone.
-- Returns how many were changed, or would be.

local ev, bell, t = KEYS[1], KEYS[2], target_at(3)
local group, states, action, mark_ms = ARGV[2], ARGV[4], ARGV[5], tonumber(ARGV[6])
local as_of, counts_only = tonumber(ARGV[7]), ARGV[8] == 'count'
local now = real_ms() + tonumber(ARGV[1])
local at = as_of and math.max(now, as_of + 1) or now
local own, moved, ring = own_of(t), 0, false
local MARKS = 3 + TARGET_KEYS

local function is_pending(id)
  local sid = stream_of(id)
  local found = redis.pcall('XPENDING', ev, group, sid, sid, 1)
  return found and not found.err and #found > 0
end

local function has_passed(id)
  return own.standing ~= 'forgotten' and own.standing ~= 'unknown' and id <= hex_of(own.cursor)
end

-- Gives a delivery a record that had none.
local function make(id, due, kind, subject)
  if not string.find(states, '-', 1, true) or not has_passed(id) then return false end
  if counts_only then return true end
  local r = new_record(at, lane_of(own, kind, subject))
  r.due = due
  if action == 'rearm' then r.retried = number(now) end
  move(t, id, r, nil, 'q', at)
  return true
end

local function change(id, after, kind, subject)
  local r = parse(redis.call('HGET', t.rec, id))
  local due = number(now + after)
  if is_pending(id) then return false end
  if not r then return make(id, due, kind, subject) end
  if action == 'seed' or (action == 'begin' and not own.renewed) then return false end
  if not string.find(states, r.state, 1, true) then return false end
  if as_of and tonumber(r.updated) > as_of then return false end
  if counts_only then return true end
  local from = r.state
  r.reason = ''
  if action == 'cancel' then
    r.due = '0'
    move(t, id, r, from, 'c', at)
    if r.lane ~= '' then release(t, r.lane, at) end
    return true
  end
  r.due, r.attempts, r.first, r.retried, r.taken, r.lane = due, '0', '', number(now), '0', lane_of(own, kind, subject)
  move(t, id, r, from, 'w', at)
  return true
end

for a = 9, #ARGV, 4 do
  local id, mark = ARGV[a], KEYS[MARKS + (a - 9) / 4]
  if change(id, tonumber(ARGV[a + 1]), ARGV[a + 2], ARGV[a + 3]) then
    moved, ring = moved + 1, not counts_only
    if ring and action ~= 'cancel' and mark ~= bell then redis.call('PEXPIRE', mark, mark_ms, 'GT') end
  end
end
if ring then redis.call('PUBLISH', bell, ARGV[3]) end
return moved
