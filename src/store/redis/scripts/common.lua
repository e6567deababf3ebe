-- Words that all scripts share; put in front of each of them, no script of its own.
--
-- A delivery is named by its event's id as 20 hex digits, which sort as events do. Its record is
--   state;due;updated;attempts;total;first;retried;takeovers;taken;status;error;reason;only;lane
-- where the state is one letter: q queued, f in flight, w waiting, p parked, x dead, d delivered, s skipped, c cancelled;
-- and the error is a class with, where one is known, a hint behind a comma.
-- The fields from `attempts` to `only` are the relay's own, and scripts only touch those that they name.

local INDEX = { q = 'queued', f = 'flying', w = 'waiting', p = 'parked', x = 'dead' }

local function is_unfinished(state) return INDEX[state] ~= nil and state ~= 'x' end

local function number(n) return string.format('%.0f', n) end

local function real_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function hex_of(stream_id)
  local ms, seq = string.match(stream_id, '^(%d+)-(%d+)$')
  return string.format('%012x%08x', ms, seq)
end

local function stream_of(id)
  return number(tonumber(string.sub(id, 1, 12), 16)) .. '-' .. number(tonumber(string.sub(id, 13), 16))
end

local function ms_of(id) return tonumber(string.sub(id, 1, 12), 16) end

-- The keys of one target, which stand in KEYS from `at` in this order.
local function target_at(at)
  return {
    own = KEYS[at], rec = KEYS[at + 1], att = KEYS[at + 2], act = KEYS[at + 3], due = KEYS[at + 4], died = KEYS[at + 5],
    queued = KEYS[at + 6], flying = KEYS[at + 7], waiting = KEYS[at + 8], parked = KEYS[at + 9], dead = KEYS[at + 10],
    lane = KEYS[at + 11], lanefly = KEYS[at + 12], lanepark = KEYS[at + 13],
  }
end
local TARGET_KEYS = 14

local FIELDS = '^(%a);(%d*);(%d*);(%d*);(%d*);(%d*);(%d*);(%d*);(%d*);([^;]*);([^;]*);([^;]*);([^;]*);(.*)$'

local function parse(text)
  if not text then return nil end
  local r = {}
  r.state, r.due, r.updated, r.attempts, r.total, r.first, r.retried, r.takeovers, r.taken, r.status, r.error, r.reason,
    r.only, r.lane = string.match(text, FIELDS)
  if not r.state then return nil end
  return r
end

local function text_of(r)
  return table.concat({ r.state, r.due, r.updated, r.attempts, r.total, r.first, r.retried, r.takeovers, r.taken, r.status,
    r.error, r.reason, r.only, r.lane }, ';')
end

local function new_record(now, lane)
  return { state = '', due = '0', updated = number(now), attempts = '0', total = '0', first = '', retried = '',
    takeovers = '0', taken = '0', status = '', error = '', reason = '', only = '', lane = lane }
end

-- Moves the delivery's record to `state` and keeps every index in step. `from` is the state that the indexes know it in,
-- or nil. The caller has set all other fields.
local function move(t, id, r, from, state, now)
  r.state, r.updated = state, number(now)
  redis.call('HSET', t.rec, id, text_of(r))
  if INDEX[state] and from ~= state then redis.call('ZADD', t[INDEX[state]], ms_of(id), id) end
  if state == 'q' or state == 'w' then redis.call('ZADD', t.due, r.due, id) end
  if state == 'x' then redis.call('ZADD', t.died, number(now), id) end
  if from and INDEX[from] and from ~= state then redis.call('ZREM', t[INDEX[from]], id) end
  if (from == 'q' or from == 'w') and state ~= 'q' and state ~= 'w' then redis.call('ZREM', t.due, id) end
  if from == 'x' and state ~= 'x' then redis.call('ZREM', t.died, id) end
  if r.lane ~= '' then
    local member = r.lane .. '\0' .. id
    if INDEX[state] and state ~= 'x' then redis.call('ZADD', t.lane, 0, member) else redis.call('ZREM', t.lane, member) end
    if state == 'f' then redis.call('ZADD', t.lanefly, 0, member) else redis.call('ZREM', t.lanefly, member) end
    if state == 'p' then redis.call('ZADD', t.lanepark, 0, member) else redis.call('ZREM', t.lanepark, member) end
  end
end

-- The lane of an event of this type and subject, or '' where the target does not order it.
local function lane_of(own, kind, subject)
  if own.ordering ~= '1' or subject == '' then return '' end
  if string.find('\n' .. own.unordered .. '\n', '\n' .. kind .. '\n', 1, true) then return '' end
  return subject
end

-- Whether the lane has a member in the sorted set `key`, where `below` is set only one of an earlier event.
local function lane_has(key, lane, below)
  local top = below and ('(' .. lane .. '\0' .. below) or ('(' .. lane .. '\1')
  return #redis.call('ZRANGEBYLEX', key, '[' .. lane .. '\0', top, 'LIMIT', 0, 1) > 0
end

-- A delivery of the lane has ended: where only parked ones are left, the oldest becomes due. Tells whether one did.
local function release(t, lane, now)
  local from, to = '[' .. lane .. '\0', '(' .. lane .. '\1'
  local parked = redis.call('ZLEXCOUNT', t.lanepark, from, to)
  if parked == 0 or redis.call('ZLEXCOUNT', t.lane, from, to) > parked then return false end
  local member = redis.call('ZRANGEBYLEX', t.lanepark, from, to, 'LIMIT', 0, 1)[1]
  local id = string.sub(member, -20)
  local r = parse(redis.call('HGET', t.rec, id))
  if not r then
    redis.call('ZREM', t.lanepark, member)
    redis.call('ZREM', t.lane, member)
    return false
  end
  r.due = number(now)
  move(t, id, r, 'p', 'w', now)
  return true
end

-- What the target's own hash says.
local function own_of(t)
  local v = redis.call('HMGET', t.own, 'standing', 'paused', 'ordering', 'unordered', 'ordered_by', 'cursor', 'passed',
    'renewed', 'revision', 'phase', 'since', 'failed', 'probe_at')
  return {
    standing = v[1] or 'unknown', paused = v[2] or '', ordering = v[3] or '0', unordered = v[4] or '',
    ordered_by = tonumber(v[5] or '0'), cursor = v[6] or '0-0', passed = tonumber(v[7] or '0'), renewed = v[8] == '1',
    revision = v[9] or '0', phase = v[10] or 'closed', since = v[11] or '', failed = v[12] or '0',
    probe_at = tonumber(v[13] or '0'),
  }
end

-- An event's type, lane text and frame: from the log, else from where the sweep put it; nil where it is lost.
local function event_of(ev, fr, id)
  local sid = stream_of(id)
  local entry = redis.call('XRANGE', ev, sid, sid)[1]
  if entry then return { kind = entry[2][2], subject = entry[2][4], frame = entry[2][6] } end
  local kept = redis.call('HGET', fr, id)
  if not kept then return nil end
  local kind_bytes, subject_bytes, rest = string.match(kept, '^(%d+) (%d+) (.*)$')
  kind_bytes, subject_bytes = tonumber(kind_bytes), tonumber(subject_bytes)
  return { kind = string.sub(rest, 1, kind_bytes), subject = string.sub(rest, kind_bytes + 1, kind_bytes + subject_bytes),
    frame = string.sub(rest, kind_bytes + subject_bytes + 1) }
end
