-- Deletes consumers that are gone. Deleting one drops what is pending for it, so only those for
-- whom nothing is: the look and the deletion are one step.
--
-- KEYS  1 the stream
-- ARGV  the group; the consumer that leaves now; the milliseconds after which another counts as gone
local stream = KEYS[1]
local group, leaving, gone_after_ms = ARGV[1], ARGV[2], tonumber(ARGV[3])

for _, fields in ipairs(redis.call("XINFO", "CONSUMERS", stream, group)) do
  local consumer = {}
  for index = 1, #fields, 2 do
    consumer[fields[index]] = fields[index + 1]
  end
  local gone = consumer.name == leaving or consumer.idle > gone_after_ms
  if gone and consumer.pending == 0 then
    redis.call("XGROUP", "DELCONSUMER", stream, group, consumer.name)
  end
end
