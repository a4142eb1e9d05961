-- ARGV: now, limits, lease -> 1, or 0 where the lease had ended. The policy decides now what stays.
sweep()
local lives = lease_lives(ARGV[3])
if lives then drop_lease(ARGV[3]) end
keep_watermark()
return finish(lives and 1 or 0)
