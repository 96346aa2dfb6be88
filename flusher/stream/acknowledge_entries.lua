-- Ends entries whose records are in PostgreSQL: all of them are acknowledged and deleted, or none. One
-- that was acknowledged and not deleted would stay for ever.
--
-- KEYS  1 the stream; 2 how many more records than entries it holds
-- ARGV  the group, how many records each of these entries holds, their ids (some thousand at the
--       most: Lua's `unpack` has an end)
-- Returns how many records this call ended. Who deletes an entry ended it: a group that was made anew
-- has not given it to anybody yet, and acknowledges nothing.
local stream, joined = KEYS[1], KEYS[2]
local group, records = ARGV[1], tonumber(ARGV[2])

redis.call("XACK", stream, group, unpack(ARGV, 3))
local deleted = redis.call("XDEL", stream, unpack(ARGV, 3))
if records > 1 and deleted > 0 then
  redis.call("DECRBY", joined, deleted * (records - 1))
end
if redis.call("XLEN", stream) == 0 then
  -- Whatever disturbed the count, by hand or by a restore, ends here.
  redis.call("DEL", joined)
end
return deleted * records
