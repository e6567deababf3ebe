-- overview: counts what every target has, at one moment.
-- KEYS  1 log, 2 meta, 3 aside, then for each target: own, queued, flying, waiting, parked, dead
-- ARGV  the name of each target (its group)
-- Returns {added, removed, targets…}, each {standing, paused, passed, revision, phase, since, failed, probe_at, queued,
-- in flight with a record, waiting, parked, dead, pending in the group, id of the oldest unfinished event ('' : none)}.

local ev, meta, aside = KEYS[1], KEYS[2], KEYS[3]
local head = redis.call('HMGET', meta, 'added', 'removed')
local added = tonumber(head[1] or '0')
local reply = { head[1] or '0', head[2] or '0' }

for i = 1, #ARGV do
  local at = 4 + 6 * (i - 1)
  local own = redis.call('HMGET', KEYS[at], 'standing', 'paused', 'passed', 'revision', 'phase', 'since', 'failed',
    'probe_at', 'cursor')
  local row, oldest = {}, ''
  local function older(id) if id and (oldest == '' or id < oldest) then oldest = id end end
  for field = 1, 8 do row[field] = own[field] or '' end
  for index = 1, 5 do
    local count = redis.call('ZCARD', KEYS[at + index])
    row[8 + index] = count
    if count > 0 and index < 5 then older(redis.call('ZRANGE', KEYS[at + index], 0, 0)[1]) end
  end
  local pending = redis.pcall('XPENDING', ev, ARGV[i])
  if pending.err then pending = { 0 } end -- the group is gone: whoever claims makes it anew
  row[14] = pending[1]
  if pending[1] > 0 then older(hex_of(pending[2])) end
  if added > tonumber(own[3] or '0') and own[1] ~= 'forgotten' then
    local first = redis.call('XRANGE', ev, '(' .. (own[9] or '0-0'), '+', 'COUNT', 1)[1]
    if first then older(hex_of(first[1])) end
    older(first_above(aside, hex_of(own[9] or '0-0')))
  end
  row[15] = oldest
  reply[#reply + 1] = row
end
return reply
