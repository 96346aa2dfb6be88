-- Makes forgotten entries pending again. These are entries that the group has delivered and that no
-- consumer has, so that nobody would ever get them. This happens when pending lists are lost: by
-- XGROUP DELCONSUMER, or by a server that dropped transactions at its restart.
--
-- Only the oldest entries of the stream are examined. A forgotten entry soon becomes one of these.
--
-- KEYS  1 the stream
-- ARGV  the group; a consumer; how many entries to examine; after how many idle milliseconds a
--       consumer may claim an entry
-- Returns how many were made pending.
local stream = KEYS[1]
local group, consumer, most, claim_ms = unpack(ARGV)

local last_delivered
for _, fields in ipairs(redis.call("XINFO", "GROUPS", stream)) do
  local found = {}
  for index = 1, #fields, 2 do
    found[fields[index]] = fields[index + 1]
  end
  if found.name == group then
    last_delivered = found["last-delivered-id"]
  end
end

local taken_up = 0
if last_delivered then
  for _, entry in ipairs(redis.call("XRANGE", stream, "-", last_delivered, "COUNT", most)) do
    local id = entry[1]
    if #redis.call("XPENDING", stream, group, id, id, 1) == 0 then
      -- With an idle time that lets the next claim take it at once.
      redis.call("XCLAIM", stream, group, consumer, 0, id, "IDLE", claim_ms, "FORCE", "JUSTID")
      taken_up = taken_up + 1
    end
  end
end
return taken_up
