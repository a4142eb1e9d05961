-- -> how many keys the index had. They are looked for by name, since nothing that is in them can be trusted.
local keys = redis.call('KEYS', prefix .. '*')
for i = 1, #keys, CHUNK do
  redis.call('UNLINK', unpack(keys, i, math.min(i + CHUNK - 1, #keys)))
end
return #keys
