-- Replaces an entry of several records by one entry for each, so that one of them can be set aside
-- without the others. Nothing happens if the entry is not there any more.
--
-- KEYS  1 the stream; 2 how many more records than entries it holds
-- ARGV  the group, the entry's id, the name of its field, its records
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
