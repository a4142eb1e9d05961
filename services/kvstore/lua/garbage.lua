-- ARGV: now, limits, how many, then members deleted by the caller ... -> members 'token key' still to be deleted.
local deleted = {}
for i = 4, #ARGV do deleted[#deleted + 1] = ARGV[i] end
in_chunks('SREM', 'garbage', deleted)
return redis.call('SRANDMEMBER', at('garbage'), ARGV[3])
