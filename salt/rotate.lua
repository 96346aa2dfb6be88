-- One month, one salt: makes a month's salt and destroys every other in the same atomic step.
--
-- KEYS  1 the name of the current month; 2 that month's salt; 3 the record of rotations;
--       4 since when a destroyed salt's copies are to be disposed of; 5… every other salt's key
-- ARGV  the month, its first and its first later millisecond, 32 fresh random bytes,
--       "1" to replace a salt that the month already has
-- Returns what happened, the recorded month, the salt in force (or false), and the server's TIME.
--
-- The month is checked against this server's clock, so that a caller whose clock is wrong can
-- neither end a month early nor bring one back.
local current_key, salt_key, rotations_key, due_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
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
-- a buffer of its own (not embedded in its key's object, as one made by SET would be), so that
-- SETRANGE writes over its bytes and does not put a copy elsewhere.
local function destroy(key)
  local length = redis.call("STRLEN", key)
  if length > 0 then
    redis.call("SETRANGE", key, 0, string.rep("\0", length))
  end
  return redis.call("DEL", key)
end

local destroyed = 0
for index = 5, #KEYS do
  if KEYS[index] ~= salt_key then
    destroyed = destroyed + destroy(KEYS[index])
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
  outcome = "unchanged"
end

local salt = existing
if outcome ~= "unchanged" then
  destroy(salt_key)
  redis.call("SETRANGE", salt_key, 0, fresh_salt)
  redis.call("PEXPIREAT", salt_key, ends_ms)
  redis.call("SET", current_key, month)
  redis.call("XADD", rotations_key, "MAXLEN", 240, "*", "month", month, "outcome", outcome)
  salt = fresh_salt
end
-- In the same step, so that no crash can come between: whoever looks next goes on with it. The slow
-- log may hold the arguments of this very call.
if outcome ~= "unchanged" or destroyed > 0 then
  redis.call("SET", due_key, now_ms)
end
return { outcome, month, salt, time }
