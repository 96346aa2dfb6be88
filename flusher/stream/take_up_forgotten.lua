-- Makes pending what no consumer would ever be given: entries that the group counts as read, and that
-- nobody has. They come of pending lists that were lost: XGROUP DELCONSUMER by hand, or a server that
-- dropped transactions at its restart.
--
-- Only the stream's oldest entries are looked at: what nobody ends is there before long.
--
-- KEYS  1 the stream
-- ARGV  the group; a consumer; how many entries to look at; for how long, in milliseconds, an entry
--       has to be idle until another consumer claims it
-- Returns how many were taken up.
local stream = KEYS[1]
local group, consumer, most, idle_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local last_read
for _, fields in ipairs(redis.call("XINFO", "GROUPS", stream)) do
  local found = {}
  for index = 1, #fields, 2 do
    found[fields[index]] = fields[index + 1]
  end
  if found.name == group then
    last_read = found["last-delivered-id"]
  end
end

local taken_up = 0
if last_read then
  for _, entry in ipairs(redis.call("XRANGE", stream, "-", last_read, "COUNT", most)) do
    local id = entry[1]
    if #redis.call("XPENDING", stream, group, id, id, 1) == 0 then
      -- With the idle time that lets the next claim have it at once.
      redis.call("XCLAIM", stream, group, consumer, 0, id, "IDLE", idle_ms, "FORCE", "JUSTID")
      taken_up = taken_up + 1
    end
  end
end
return taken_up
