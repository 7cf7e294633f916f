-- Makes everything with these tags stale. KEYS: the clock of the cache, then the tags. ARGV: how long a drop is remembered, in milliseconds.
local time = redis.call('TIME')
local now = math.max(tonumber(time[1]) * 1000000 + tonumber(time[2]), tonumber(redis.call('HGET', KEYS[1], 'now') or '') or 0) + 1
local text = string.format('%.0f', now)
redis.call('HSET', KEYS[1], 'now', text)
redis.call('HSETNX', KEYS[1], 'begun', text)
for i = 2, #KEYS do
  redis.call('SET', KEYS[i], text, 'PX', ARGV[1])
end
return {now}
