-- A moment that never goes back, in microseconds. KEYS: the clock of the cache.
local time = redis.call('TIME')
local now = math.max(tonumber(time[1]) * 1000000 + tonumber(time[2]), tonumber(redis.call('HGET', KEYS[1], 'now') or '') or 0)
local text = string.format('%.0f', now)
redis.call('HSET', KEYS[1], 'now', text)
redis.call('HSETNX', KEYS[1], 'begun', text)
return {now}
