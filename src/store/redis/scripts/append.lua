-- append: adds entries to a list of which only the newest are kept.
-- KEYS  1 meta, 2 the list
-- ARGV  1 the list's counter in meta, 2 how many entries are kept, then the entries, oldest first: JSON objects, not empty
-- Each entry gets the next number as its first member.
-- Returns the number of the newest entry.

local last = 0
for i = 3, #ARGV do
  last = redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
  redis.call('LPUSH', KEYS[2], '{"number":' .. number(last) .. ',' .. string.sub(ARGV[i], 2))
end
redis.call('LTRIM', KEYS[2], 0, tonumber(ARGV[2]) - 1)
return last
