-- One month, one salt: makes a month's salt and destroys every other one, in one atomic step.
--
-- KEYS  1 the name of the current month; 2 that month's salt; 3 the record of rotations;
--       4 since when copies of a destroyed salt must be removed; 5… the keys of all salts
-- ARGV  1 the month, 2 its first millisecond, 3 the first millisecond of the next month,
--       4 32 new random bytes; "" in the first call: the script asks for them if it needs them,
--       5 "1": replace the salt that the month already has, or that of a later month,
--       6 this month's salt if the caller still holds it, or "",
--       7 "1": the caller has seen this month's salt on the server, so this is no first start,
--       8 "1": the caller has waited for a process that may put a missing salt back,
--       9 "1": the caller's calendar decides when a salt expires (rotation's does),
--       10… the time of other clocks, in milliseconds
-- Returns the outcome, the recorded month, the server's TIME, and the expiry that this month's salt
-- had before.
--
-- The script never reads an existing salt, and gets a new one only if it needs one: what Lua and
-- the server's commands receive is copied to memory that is freed without being overwritten.
--
-- The month is checked against this server's clock, so a caller whose clock is wrong can't end a
-- month early or bring one back. This server's clock alone can't either: if other clocks contradict
-- it, no salt is made for another month, and none is destroyed.
local current_key, salt_key, rotations_key, due_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local month = ARGV[1]
local starts_ms, ends_ms = tonumber(ARGV[2]), tonumber(ARGV[3])
local fresh_salt, replace, held_salt = ARGV[4], ARGV[5] == "1", ARGV[6]
local is_known, has_waited, sets_expiry = ARGV[7] == "1", ARGV[8] == "1", ARGV[9] == "1"
local HOUR_MS, MINUTE_MS = 3600000, 60000

local time = redis.call("TIME")
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local recorded = redis.call("GET", current_key)

if now_ms < starts_ms or now_ms >= ends_ms then
  return { "another_month", recorded, time }
end

local clocks_agree = true
for index = 10, #ARGV do
  if math.abs(tonumber(ARGV[index]) - now_ms) > HOUR_MS then
    clocks_agree = false
  end
end

-- Months sort as text. Around a month's end two clocks may differ by seconds: that is no reason to go
-- back.
local goes_back = recorded and recorded > month
if goes_back and not (replace and ends_ms - now_ms > MINUTE_MS) then
  return { "clock_went_back", recorded, time }
end

-- An earlier month goes on by rotation's calendar, which has set the expiry of its salt.
if not sets_expiry and recorded and recorded < month then
  for index = 5, #KEYS do
    local expires_ms = redis.call("PEXPIRETIME", KEYS[index])
    if KEYS[index] < salt_key and expires_ms > now_ms + MINUTE_MS then
      return { "another_calendar", recorded, time }
    end
  end
end

local expires_ms = redis.call("PEXPIRETIME", salt_key)
local existing = expires_ms ~= -2
local outcome
if recorded == month or (not recorded and (existing or held_salt ~= "" or is_known)) then
  if replace then
    outcome = "replaced"
  elseif existing then
    outcome = "unchanged"
  elseif held_salt ~= "" then
    outcome = "restored"
  elseif has_waited then
    outcome = "lost"
  else
    return { "missing", recorded, time }
  end
elseif not recorded then
  outcome = "first"
elseif goes_back then
  outcome = "replaced"
else
  outcome = "rotated"
end

if (outcome == "first" or outcome == "rotated" or outcome == "replaced") and not clocks_agree then
  return { "clocks_disagree", recorded, time }
end

if outcome ~= "unchanged" and outcome ~= "restored" and fresh_salt == "" then
  return { "salt_wanted", recorded, time }
end

-- Overwrites a salt in memory before its key is deleted. A value made by SETRANGE has its own buffer
-- (one made by SET would be embedded in its key's object), so SETRANGE overwrites its bytes in place.
local function destroy(key)
  local length = redis.call("STRLEN", key)
  if length > 0 then
    redis.call("SETRANGE", key, 0, string.rep("\0", length))
  end
  return redis.call("DEL", key)
end

local destroyed = 0
if clocks_agree then
  for index = 5, #KEYS do
    if KEYS[index] ~= salt_key then
      destroyed = destroyed + destroy(KEYS[index])
    end
  end
end

if outcome ~= "unchanged" then
  destroy(salt_key)
  redis.call("SETRANGE", salt_key, 0, outcome == "restored" and held_salt or fresh_salt)
  redis.call("PEXPIREAT", salt_key, ends_ms)
  -- With the time as a field, because the id of an entry never goes back, even if the clock did.
  redis.call("XADD", rotations_key, "MAXLEN", 240, "*", "month", month, "outcome", outcome,
    "at", now_ms)
  expires_ms = ends_ms
elseif sets_expiry and expires_ms ~= ends_ms then
  redis.call("PEXPIREAT", salt_key, ends_ms)
end
if recorded ~= month then
  redis.call("SET", current_key, month)
end
-- In the same step, so that another process continues after a crash. Also if nothing was destroyed,
-- because the slow log may hold the arguments of this call.
if outcome ~= "unchanged" or destroyed > 0 then
  redis.call("SET", due_key, now_ms)
end
return { outcome, month, time, expires_ms }
