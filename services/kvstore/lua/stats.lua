-- ARGV: now, limits -> the counters, the bytes of each tenant, leases held, garbage, ghosts.
sweep()
finish(nil)
return {
  redis.call('HGETALL', at('count')), redis.call('HGETALL', at('tenants')), redis.call('ZCARD', at('leases')),
  redis.call('SCARD', at('garbage')), redis.call('ZCARD', at('ghosts')),
}
