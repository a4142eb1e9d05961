-- ARGV: now, limits, lease, lease ms -> 1, or 0 where the lease has ended.
sweep()
local lives = lease_lives(ARGV[3])
if lives then redis.call('ZADD', at('leases'), now + ARGV[4], ARGV[3]) end
return finish(lives and 1 or 0)
