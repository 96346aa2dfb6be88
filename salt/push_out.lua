-- Overwrites freed memory: allocates pieces of every size that a salt was ever part of, fills them,
-- and frees them.
--
-- KEYS  1 a key that is used for nothing else
--
-- A server frees memory without overwriting it: arguments of commands, Lua's strings, buffers of
-- closed connections, values of expired keys. The allocator reuses the pieces first that were freed
-- last. A hash allocates memory for each value, and its commands also fill the replicas' memory.
local key = KEYS[1]
local SMALL, MEDIUM, LARGEST = 96, 1024, 32768
local HEAD = 32 -- more than the header before a value in its piece of memory

local number = 0
local function fill(size, count)
  local filler = string.rep("0", size)
  for _ = 1, count do
    number = number + 1
    local name = string.format("%08d", number)
    redis.call("HSET", key, name, name .. filler:sub(9))
  end
end

collectgarbage() -- only this frees Lua's strings
-- The larger pieces of jemalloc: four sizes from one power of two to the next. A connection's buffers
-- and a replication backlog's blocks have 16 KiB or more. It keeps 20 freed pieces of a size at hand.
local power = LARGEST
while power >= MEDIUM do
  for quarters = 8, 5, -1 do
    fill(power * quarters / 4 - HEAD, 24)
  end
  power = power / 2
end
for size = MEDIUM, SMALL + 16, -16 do
  fill(size, 16)
end
for size = SMALL, 16, -8 do
  fill(size, 1000)
end
redis.call("DEL", key)
-- The server keeps the arguments of the last commands, each at its position.
redis.call("SETRANGE", key, 0, string.rep("0", 64))
redis.call("DEL", key)
