-- One month, one salt: makes a month's salt and destroys every other in the same atomic step.
--
-- KEYS  1 the name of the current month; 2 that month's salt; 3 the record of rotations;
--       4… every other salt's key
-- ARGV  the month, its first and its first later millisecond, 32 fresh random bytes,
--       "1" to replace a salt that the month already has
-- Returns what happened, the recorded month, the salt in force (or false), and the server's TIME.
--
-- The month is checked against this server's clock, so that a caller whose clock is wrong can
-- neither end a month early nor bring one back.
local current_key, salt_key, rotations_key = KEYS[1], KEYS[2], KEYS[3]
local month = ARGV[1]
local starts_ms, ends_ms = tonumber(ARGV[2]), tonumber(ARGV[3])
local fresh_salt, replace = ARGV[4], ARGV[5] == "1"

local time = redis.call("TIME")
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local recorded = redis.call("GET", current_key)

if now_ms < starts_ms or now_ms >= ends_ms then
  return { "another_month", recorded, false, time }
end
-- Months are written so that they sort as text.
if recorded and recorded > month then
  return { "clock_went_back", recorded, false, time }
end

-- Overwrites a salt where it lies in memory before its key is deleted. A value made by SETRANGE is
-- a buffer of its own (never shared, never embedded in its key's object), so that SETRANGE writes
-- over its bytes and does not put a copy elsewhere.
local function destroy(key)
  local length = redis.call("STRLEN", key)
  if length > 0 then
    redis.call("SETRANGE", key, 0, string.rep("\0", length))
  end
  redis.call("DEL", key)
end

for index = 4, #KEYS do
  if KEYS[index] ~= current_key and KEYS[index] ~= salt_key then
    destroy(KEYS[index])
  end
end

local existing = redis.call("GET", salt_key)
local outcome
if recorded ~= month then
  outcome = recorded and "rotated" or "first"
elseif not existing then
  outcome = "lost"
elseif replace then
  outcome = "replaced"
else
  return { "unchanged", recorded, existing, time }
end

destroy(salt_key)
redis.call("SETRANGE", salt_key, 0, fresh_salt)
redis.call("PEXPIREAT", salt_key, ends_ms)
redis.call("SET", current_key, month)
redis.call("XADD", rotations_key, "MAXLEN", 240, "*", "month", month, "outcome", outcome)
return { outcome, month, fresh_salt, time }
