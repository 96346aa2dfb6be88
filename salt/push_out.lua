-- Writes over memory that was freed: takes pieces of every size that a salt was ever part of, fills
-- them, and gives them back.
--
-- KEYS  1 a key that holds nothing else
--
-- A server frees memory without writing over it: what a command was given, Lua's strings, buffers
-- of connections that are gone, the value of a key that has expired. The allocator gives the pieces
-- that were freed last first. A hash has memory of its own for each value, and its commands go to the
-- replicas, whose memory is filled with it.
local key = KEYS[1]
local SMALL, MEDIUM, LARGEST = 96, 1024, 32768
local HEAD = 32 -- more than what stands before a value in its piece of memory

local number = 0
local function fill(size, count)
  local filler = string.rep("0", size)
  for _ = 1, count do
    number = number + 1
    local name = string.format("%08d", number)
    redis.call("HSET", key, name, name .. filler:sub(9))
  end
end

collectgarbage() -- Lua's strings are freed by this alone
-- As jemalloc has its larger pieces: four sizes from one power of two to the next. A connection's
-- buffers are of 16 KiB and more.
local power = LARGEST
while power >= MEDIUM do
  for quarters = 8, 5, -1 do
    fill(power * quarters / 4 - HEAD, 8)
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
-- The arguments of the last commands are kept, each at its place.
redis.call("SETRANGE", key, 0, string.rep("0", 64))
redis.call("DEL", key)
