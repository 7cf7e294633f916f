-- What is kept and how old it is in microseconds, or nothing. KEYS: the value. ARGV: what the key of a tag begins with.
-- The keys of the tags are found in the value; they lie in the same hash slot as all keys of a fleet.
local kept = redis.call('HMGET', KEYS[1], 'stamp', 'tags', 'value')
local stamp = tonumber(kept[1] or '')
if not stamp or not kept[2] or not kept[3] then
  return {}
end
for i = 1, #kept[2], 64 do
  -- A tag that nobody knows any more may have been dropped.
  local dropped = tonumber(redis.call('GET', ARGV[1] .. string.sub(kept[2], i, i + 63)) or '')
  if not dropped or dropped >= stamp then
    return {}
  end
end
local time = redis.call('TIME')
return {math.max(tonumber(time[1]) * 1000000 + tonumber(time[2]) - stamp, 0), kept[3]}
