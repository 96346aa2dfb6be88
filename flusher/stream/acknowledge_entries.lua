-- Acknowledges and deletes entries whose records are in PostgreSQL. Both happen in one step: an entry
-- that was acknowledged and not deleted would stay for ever.
--
-- KEYS  1 the stream; 2 its number of records minus its number of entries
-- ARGV  the group; how many records each of these entries holds; their ids (Lua's `unpack` takes at
--       most some thousand)
-- Returns how many records this call deleted. XDEL is counted and not XACK, because a group that was
-- created again has nothing pending to acknowledge.
local stream, joined = KEYS[1], KEYS[2]
local group, records = ARGV[1], tonumber(ARGV[2])

redis.call("XACK", stream, group, unpack(ARGV, 3))
local deleted = redis.call("XDEL", stream, unpack(ARGV, 3))
if records > 1 and deleted > 0 then
  redis.call("DECRBY", joined, deleted * (records - 1))
end
if redis.call("XLEN", stream) == 0 then
  -- A wrong count, after changes by hand or a restore, is corrected here.
  redis.call("DEL", joined)
end
return deleted * records
