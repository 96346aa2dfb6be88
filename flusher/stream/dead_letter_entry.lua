-- Moves an entry from its stream to the dead letters, if it is still there.
--
-- KEYS  1 the stream; 2 its dead letters
-- ARGV  the group; the entry's id; the name of its field; the reason's label; the reason; how many
--       dead letters are kept
-- Returns whether it was there (1 or 0), and how many of the oldest dead letters were deleted.
local stream, dead_letters = KEYS[1], KEYS[2]
local group, id, field, reason, detail, kept = unpack(ARGV)

local dropped = 0
local found = redis.call("XRANGE", stream, id, id)
if #found > 0 then
  local entry = {}
  for index = 1, #found[1][2], 2 do
    entry[found[1][2][index]] = found[1][2][index + 1]
  end
  local pending = redis.call("XPENDING", stream, group, id, id, 1)
  local attempts = #pending > 0 and pending[1][4] or 0
  -- A replayed entry brings the values of its first time.
  attempts = attempts + tonumber(entry["attempts"] or 0)
  local first_seen = entry["first_seen"] or string.match(id, "^%d+")

  while redis.call("XLEN", dead_letters) >= tonumber(kept) do
    redis.call("XDEL", dead_letters, redis.call("XRANGE", dead_letters, "-", "+", "COUNT", 1)[1][1])
    dropped = dropped + 1
  end
  redis.call("XADD", dead_letters, "*", field, entry[field] or "", "reason", reason,
    "detail", detail, "entry", id, "attempts", attempts, "first_seen", first_seen)
end
redis.call("XACK", stream, group, id)
redis.call("XDEL", stream, id)
return { #found, dropped }
