-- jobs: makes a job, or replaces one that nobody else has changed since.
-- KEYS  1 meta, 2 jobs
-- ARGV  1 clock offset ms, 2 what (create, put);
--       create: 3 the number of the newest job that the caller knows, 4 the new one's document, then numbers to drop
--       put: 3 the job's number, 4 the revision that the caller knows, 5 its document
-- A job is kept as revision;changed ms;document. The caller decides upon what it has read; where another job was made
-- since, it has to decide again.
-- Returns {now, done}, {now, again}, or {now, lost, the job as it is, or ''}.

local meta, jobs, what, id = KEYS[1], KEYS[2], ARGV[2], ARGV[3]
local now = number(real_ms() + tonumber(ARGV[1]))

if what == 'create' then
  if (redis.call('HGET', meta, 'jobs') or '0') ~= id then return { now, 'again' } end
  id = redis.call('HINCRBY', meta, 'jobs', 1)
  redis.call('HSET', jobs, number(id), '0;' .. now .. ';' .. ARGV[4])
  for i = 5, #ARGV do redis.call('HDEL', jobs, ARGV[i]) end
  return { now, 'done' }
end

local stored = redis.call('HGET', jobs, id) or ''
if string.match(stored, '^%d+') ~= ARGV[4] then return { now, 'lost', stored } end
redis.call('HSET', jobs, id, number(tonumber(ARGV[4]) + 1) .. ';' .. now .. ';' .. ARGV[5])
return { now, 'done' }
