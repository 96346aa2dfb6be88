-- Moves an entry from its stream to the dead letters, or leaves it be if it is not there any more.
--
-- KEYS  1 the stream; 2 its dead letters
-- ARGV  the group, the entry's id, the name of its field, the reason's label, the reason
local stream, dead_letters = KEYS[1], KEYS[2]
local group, id, field, reason, detail = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

local found = redis.call("XRANGE", stream, id, id)
if #found > 0 then
  local pending = redis.call("XPENDING", stream, group, id, id, 1)
  local attempts = #pending > 0 and pending[1][4] or 0
  local record = ""
  for index = 1, #found[1][2], 2 do
    if found[1][2][index] == field then
      record = found[1][2][index + 1]
    end
  end
  redis.call("XADD", dead_letters, "*", field, record, "reason", reason, "detail", detail,
    "entry", id, "attempts", attempts)
end
redis.call("XACK", stream, group, id)
redis.call("XDEL", stream, id)
return #found
