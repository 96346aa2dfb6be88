-- Moves a dead letter back into its stream.
--
-- KEYS  1 the stream; 2 its dead letters
-- ARGV  the dead letter's id; the name of its field
-- Returns 1, or 0 if there is no such dead letter.
local stream, dead_letters = KEYS[1], KEYS[2]
local id, field = ARGV[1], ARGV[2]

local found = redis.call("XRANGE", dead_letters, id, id)
if #found == 0 then
  return 0
end
local letter = {}
for index = 1, #found[1][2], 2 do
  letter[found[1][2][index]] = found[1][2][index + 1]
end
redis.call("XADD", stream, "*", field, letter[field], "attempts", letter["attempts"],
  "first_seen", letter["first_seen"])
redis.call("XDEL", dead_letters, id)
return 1
