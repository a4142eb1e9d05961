-- ARGV: now, limits, key, 1 to pin or 0 to unpin -> 1, or 0 where no such block is committed.
sweep()
local b = load(ARGV[3])
local found = b and b.committed
if found then
  b.pinned = ARGV[4] == '1'
  update_leaf(b)
end
return finish(found and 1 or 0)
