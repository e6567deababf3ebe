-- ingest: keeps a batch of events, each unless its mark is alive.
-- KEYS  1 log, 2 meta, 3 sources, 4 bell, 5 kept frames; then for each event: its mark, its subject's list (its mark again:
--       no subject); then the lists by source and by type that the events belong to, each once
-- ARGV  1 clock offset ms, 2 dedupe window ms, 3 life of a mark ms, 4 life of a list ms, 5 our lease, 6 how many events;
--       then for each event: source, secret (8 hex), body hash (16 hex), type, lane text, whether it has a subject (1, 0),
--       which of the last lists are those of its source and its type (from 1 on), frame
-- One step for the whole batch. Refused whole when the server is at its memory limit (no allow-oom).
-- Returns for each event {'new', id} or {'known', id, age ms, secret, body hash}.
-- A mark is the event's id, the secret and the body hash (44 characters, which Redis keeps in one piece), and `;` with a
-- later end of its window where a dead letter has moved it.

local ev, meta, sources, bell, fr = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local now = real_ms() + tonumber(ARGV[1])
local window, mark_px, list_px, lease = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), ARGV[5]
local count = tonumber(ARGV[6])
local at_ms, results, added, seen, listed = number(now), {}, 0, {}, {}

local function append(kind, subject, frame)
  local id = redis.pcall('XADD', ev, at_ms .. '-*', 't', kind, 's', subject, 'f', frame)
  if type(id) == 'table' and id.err then
    -- The clock was set back: ids go on within the last millisecond.
    local info = redis.call('XINFO', 'STREAM', ev)
    for i = 1, #info, 2 do
      if info[i] == 'last-generated-id' then at_ms = string.match(info[i + 1], '^(%d+)') end
    end
    id = redis.call('XADD', ev, at_ms .. '-*', 't', kind, 's', subject, 'f', frame)
  end
  return hex_of(id)
end

local function note(list, id)
  local ids = listed[list]
  if not ids then
    ids = {}
    listed[list] = ids
  end
  ids[#ids + 1] = id
end

-- Appends the ids to the list, and drops from its other end what is no longer kept: more than comes, so that it shrinks.
local function extend(list, ids)
  redis.call('RPUSH', list, unpack(ids))
  redis.call('PEXPIRE', list, list_px)
  local floor = hex_of(redis.call('HGET', meta, 'floor') or '0-0')
  local gone = 0
  for _, id in ipairs(redis.call('LRANGE', list, 0, 2 * #ids - 1)) do
    if id > floor or redis.call('HEXISTS', fr, id) == 1 then break end
    gone = gone + 1
  end
  if gone > 0 then redis.call('LPOP', list, gone) end
end

for i = 0, count - 1 do
  local mark_key, list_key, a = KEYS[6 + 2 * i], KEYS[7 + 2 * i], 7 + 9 * i
  local mark = redis.call('GET', mark_key)
  local id = mark and string.sub(mark, 1, 20)
  if mark and (tonumber(string.sub(mark, 46)) or ms_of(id) + window) > now then
    redis.call('HINCRBY', meta, 'duplicates', 1) -- a write, so that a WAIT behind this covers the answer
    results[#results + 1] = { 'known', id, number(math.max(now - ms_of(id), 0)), string.sub(mark, 21, 28),
      string.sub(mark, 29, 44) }
  else
    id = append(ARGV[a + 3], ARGV[a + 4], ARGV[a + 8])
    note(ARGV[a + 6], id)
    note(ARGV[a + 7], id)
    redis.call('SET', mark_key, id .. ARGV[a + 1] .. ARGV[a + 2], 'PX', mark_px)
    if ARGV[a + 5] == '1' then
      redis.call('RPUSH', list_key, id)
      redis.call('PEXPIRE', list_key, list_px)
      local oldest = redis.call('LINDEX', list_key, 0)
      if ms_of(oldest) < now - list_px then redis.call('LPOP', list_key, 2) end
    end
    if not seen[ARGV[a]] then
      seen[ARGV[a]] = true
      redis.call('SADD', sources, ARGV[a])
    end
    added = added + 1
    results[#results + 1] = { 'new', id }
  end
end
for list, ids in pairs(listed) do extend(KEYS[5 + 2 * count + tonumber(list)], ids) end
if added > 0 then
  redis.call('HINCRBY', meta, 'added', added)
  redis.call('PUBLISH', bell, lease)
end
return results
