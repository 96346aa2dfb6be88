-- One month, one salt: makes a month's salt and destroys every other in the same atomic step.
--
-- KEYS  1 the name of the current month; 2 that month's salt; 3 the record of rotations;
--       4 since when a destroyed salt's copies are to be disposed of; 5… every other salt's key
-- ARGV  1 the month, 2 its first and 3 its first later millisecond,
--       4 32 fresh random bytes, or "" until they are asked for,
--       5 "1" to replace a salt that the month already has, or a later month's by the present one's,
--       6 that month's salt as the caller still holds it, or "",
--       7 "1": the caller had this month's salt, or knows who has: it is no first start,
--       8 "1": the caller has waited for a process that may put a missing salt back,
--       9 "1": the caller's calendar says when a salt expires (rotation's),
--       10… what time others say that it is, in milliseconds
-- Returns what happened, the recorded month, the server's TIME, and when that month's salt expired by
-- what was set before.
--
-- No salt that is there is ever read here: what Lua and the server's commands are given is copied to
-- memory that is not overwritten when it is freed. The fresh one comes only where one is to be made.
--
-- The month is checked against this server's clock, so that a caller whose clock is wrong can
-- neither end a month early nor bring one back. Nor can this clock alone: a step that makes another
-- month's salt or destroys one is refused where the clocks of those who ask say otherwise.
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

-- Months are written so that they sort as text. Around a month's end two clocks may differ by
-- seconds: nobody wants to go back then.
local goes_back = recorded and recorded > month
if goes_back and not (replace and ends_ms - now_ms > MINUTE_MS) then
  return { "clock_went_back", recorded, time }
end

-- Another calendar than the caller's says that an earlier month goes on: the one by which its salt
-- expires.
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
  -- With the time in a field: the id of an entry never goes back, though a clock may have.
  redis.call("XADD", rotations_key, "MAXLEN", 240, "*", "month", month, "outcome", outcome,
    "at", now_ms)
  expires_ms = ends_ms
elseif sets_expiry and expires_ms ~= ends_ms then
  redis.call("PEXPIREAT", salt_key, ends_ms)
end
if recorded ~= month then
  redis.call("SET", current_key, month)
end
-- In the same step, so that no crash can come between: the next process that looks continues it. The slow
-- log may hold the arguments of this very call.
if outcome ~= "unchanged" or destroyed > 0 then
  redis.call("SET", due_key, now_ms)
end
return { outcome, month, time, expires_ms }
