-- declare: makes the store's targets those of one more relay.
-- KEYS  1 log, 2 meta, 3 relays, 4 declared, 5 targets, 6 bell, 7 kept ids, 8 aside, then the own hash of every target that is known or declared
-- ARGV  1 our lease, 2 our declaration ('' : a new one), 3 how many targets are declared; for each of them name, start (now,
--       beginning), digest of its URL; then the names of the others that are known. The own hashes stand in this order.
-- A target that is new, or was forgotten, begins where it says. One that no live relay declares becomes an orphan.
-- Returns {our declaration, changes…}, each {added|returned|orphaned|disputed, name}; {} where a target has
-- come meanwhile that is not among KEYS.

local ev, meta, relays, declared, targets, bell, kept = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local aside = KEYS[8]
local lease, declaration, count = ARGV[1], ARGV[2], tonumber(ARGV[3])
local real = real_ms()
local names, specs = {}, {}
for i = 0, count - 1 do
  local name = ARGV[4 + 3 * i]
  names[#names + 1] = name
  specs[name] = { start = ARGV[5 + 3 * i], digest = ARGV[6 + 3 * i] }
end
for a = 4 + 3 * count, #ARGV do names[#names + 1] = ARGV[a] end
local known = 0
for _, name in ipairs(names) do known = known + redis.call('SISMEMBER', targets, name) end
if known ~= redis.call('SCARD', targets) then return {} end

-- What other live relays declare: name to digest.
local elsewhere = {}
local others = redis.call('HGETALL', declared)
for i = 1, #others, 2 do
  local until_ms = redis.call('ZSCORE', relays, others[i])
  if others[i] ~= lease and until_ms and tonumber(until_ms) >= real then
    for name, digest in string.gmatch(others[i + 1], '([^=\n]+)=([^\n]*)') do
      elsewhere[name] = elsewhere[name] or {}
      table.insert(elsewhere[name], digest)
    end
  end
end

local changes, mine, moved = {}, {}, false
local function changed(how, name)
  changes[#changes + 1] = { how, name }
  moved = moved or how ~= 'disputed'
end

local function begin(key, name, start)
  local head = redis.call('HMGET', meta, 'added', 'removed', 'floor')
  -- From the beginning: the log above its floor, with what an erasure put aside of it; what was kept up to the floor is
  -- seeded as records, what was erased is passed.
  local cursor, passed = head[3] or '0-0', (head[2] or 0) + redis.call('ZCARD', kept)
  local id = first_above(aside, hex_of(cursor))
  while id do
    passed, id = passed - 1, first_above(aside, id)
  end
  passed = number(passed)
  if start == 'now' then
    local last = redis.call('XREVRANGE', ev, '+', '-', 'COUNT', 1)[1]
    cursor, passed = last and last[1] or cursor, head[1] or '0'
    local put_aside = redis.call('ZRANGE', aside, -1, -1)[1]
    if put_aside and put_aside > hex_of(cursor) then cursor = stream_of(put_aside) end
  end
  local made = redis.pcall('XGROUP', 'CREATE', ev, name, cursor, 'MKSTREAM')
  if made.err then redis.call('XGROUP', 'SETID', ev, name, cursor) end
  local renewed = redis.call('HGET', key, 'standing') == 'forgotten' and '1' or '0'
  redis.call('HSET', key, 'standing', 'configured', 'paused', '', 'began', cursor, 'cursor', cursor, 'passed', passed,
    'renewed', renewed,
    'ordering', '0', 'unordered', '', 'ordered_by', '0', 'revision', '0', 'phase', 'closed', 'since', '', 'failed', '0', 'probe_at', '0')
  redis.call('SADD', targets, name)
  changed('added', name)
end

for i, name in ipairs(names) do
  local key, spec = KEYS[8 + i], specs[name]
  local standing = redis.call('HGET', key, 'standing') or 'unknown'
  if spec then
    mine[#mine + 1] = name .. '=' .. spec.digest
    if standing == 'unknown' or standing == 'forgotten' then
      begin(key, name, spec.start)
    elseif standing == 'orphan' then
      redis.call('HSET', key, 'standing', 'configured')
      changed('returned', name)
    end
    for _, digest in ipairs(elsewhere[name] or {}) do
      if digest ~= spec.digest then changed('disputed', name) break end
    end
  elseif standing == 'configured' and not elsewhere[name] then
    redis.call('HSET', key, 'standing', 'orphan')
    changed('orphaned', name)
  end
end
local mine_text = table.concat(mine, '\n')
if moved or redis.call('HGET', declared, lease) ~= mine_text then
  redis.call('HSET', declared, lease, mine_text)
  redis.call('HINCRBY', meta, 'declared', 1)
  redis.call('HINCRBY', meta, 'revision', 1)
  redis.call('PUBLISH', bell, lease)
end
if declaration == '' then
  declaration = number(redis.call('HINCRBY', meta, 'declarations', 1))
elseif tonumber(declaration) > tonumber(redis.call('HGET', meta, 'declarations') or '0') then
  redis.call('HSET', meta, 'declarations', declaration) -- the store has lost its data: later ones still get higher numbers
end
return { declaration, unpack(changes) }
