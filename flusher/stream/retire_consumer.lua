-- Deletes a consumer that leaves, and dead ones. Deleting a consumer loses its pending entries, so only
-- consumers without any are deleted. Checking and deleting are one step.
--
-- KEYS  1 the stream
-- ARGV  the group; the consumer that leaves; after how many idle milliseconds another counts as dead
local stream = KEYS[1]
local group, leaving, dead_after_ms = ARGV[1], ARGV[2], tonumber(ARGV[3])

for _, fields in ipairs(redis.call("XINFO", "CONSUMERS", stream, group)) do
  local consumer = {}
  for index = 1, #fields, 2 do
    consumer[fields[index]] = fields[index + 1]
  end
  local is_gone = consumer.name == leaving or consumer.idle > dead_after_ms
  if is_gone and consumer.pending == 0 then
    redis.call("XGROUP", "DELCONSUMER", stream, group, consumer.name)
  end
end
