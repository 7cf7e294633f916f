-- Takes one call from every cell or from none, by GCRA and the server's clock. All times in microseconds.
-- KEYS: when counting began, then the cells.
-- ARGV: how long it settles, the longest lead, this call's lead, how long ago a call went astray (-1: none); then interval, burst and shares of each cell.
-- Gives {0, after}: taken; {1, after}: refused; {2, left}: settling.
local function text(number)
  return string.format('%.0f', number)
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local settle, most, lead, stray = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local born = tonumber(redis.call('GET', KEYS[1]) or '')
if not born or born > now or (stray >= 0 and now - stray > born + settle) then
  born = now
  redis.call('SET', KEYS[1], text(born))
end
local open = born + settle
if now < open then
  return {2, open - now}
end
local wait, arrivals = 0, {}
for i = 2, #KEYS do
  local at = 5 + (i - 2) * 3
  local interval, burst, shares = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local spent = interval * math.max(burst, shares)
  -- Never so far ahead that a clock which jumped back would stop everything; empty when counting began.
  local stored = math.min(tonumber(redis.call('GET', KEYS[i]) or '') or 0, now + spent + most)
  local arrival = math.max(stored, open + spent, now)
  wait = math.max(wait, arrival - interval * (burst - 1) - now)
  arrivals[i] = arrival
end
if wait > lead then
  return {1, math.max(wait - lead, 1)}
end
for i = 2, #KEYS do
  local arrival = math.max(arrivals[i], now + wait) + tonumber(ARGV[5 + (i - 2) * 3])
  redis.call('SET', KEYS[i], text(arrival), 'PX', text(math.ceil((arrival - now) / 1000) + 1000))
end
return {0, wait}
