-- Keeps a value unless it is stale already. KEYS: the clock of the cache, the value, then its tags.
-- ARGV: stamp, how long it is kept and how long tags are remembered (milliseconds), the tags in one text, the value.
local clock = redis.call('HMGET', KEYS[1], 'now', 'begun')
local now, begun, stamp = tonumber(clock[1] or ''), tonumber(clock[2] or ''), tonumber(ARGV[1])
-- The cache was emptied since the stamp was given: drops may have been forgotten.
if not now or not begun or stamp > now or stamp < begun then
  return {0}
end
local known = {}
for i = 3, #KEYS do
  known[i] = redis.call('GET', KEYS[i])
  if known[i] and tonumber(known[i]) >= stamp then
    return {0}
  end
end
for i = 3, #KEYS do
  if known[i] then
    redis.call('PEXPIRE', KEYS[i], ARGV[3])
  else
    -- Just before this value, so that an older one with a forgotten tag does not come back to life.
    redis.call('SET', KEYS[i], string.format('%.0f', stamp - 1), 'PX', ARGV[3])
  end
end
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[2], 'stamp', ARGV[1], 'tags', ARGV[4], 'value', ARGV[5])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return {1}
