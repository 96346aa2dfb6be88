-- Replaces an entry of several records by one entry for each record, if it is still there. Then one of
-- them can become a dead letter without the others.
--
-- KEYS  1 the stream; 2 its number of records minus its number of entries
-- ARGV  the group; the entry's id; the name of its field; its records
local stream, joined = KEYS[1], KEYS[2]
local group, id, field = ARGV[1], ARGV[2], ARGV[3]

if #redis.call("XRANGE", stream, id, id) > 0 then
  for index = 4, #ARGV do
    redis.call("XADD", stream, "*", field, ARGV[index])
  end
  redis.call("DECRBY", joined, #ARGV - 4)
end
redis.call("XACK", stream, group, id)
redis.call("XDEL", stream, id)
