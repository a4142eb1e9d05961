-- ARGV: now, limits, cursor -> next cursor, then of each block of this piece: key, token, size, parent or '', tenant,
-- model, uses, ms since the last one, committed 0/1, pinned 0/1, leases that hold it.
sweep()
local found = redis.call('HSCAN', at('blocks'), ARGV[3], 'COUNT', CHUNK)
local listed = {}
for i = 1, #found[2], 2 do
  local b = load(found[2][i])
  if b then
    listed[#listed + 1] = {
      b.key, b.token, b.size, b.parent, b.tenant, b.model, b.hits, math.max(0, now - b.touched),
      b.committed and 1 or 0, b.pinned and 1 or 0, b.holds,
    }
  end
end
return finish({ found[1], listed })
