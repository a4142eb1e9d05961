-- ARGV: now, limits, then key, token ... -> an outcome each: committed, unknown, no_parent.
sweep()

local function commit(b)
  if b.parent ~= '' then
    local parent = parent_of(b)
    if not parent or not parent.committed then
      erase(b, 'no_parent')
      return 'no_parent'
    end
  end
  redis.call('ZREM', at('pending'), b.key)
  charge_pending(b, -1)
  b.committed, b.last, b.touched = true, value('count', 'clock'), now
  count('clock', 1)
  begin_life(class_of(b), b.last)
  update_leaf(b)
  return 'committed'
end

local outcomes = {}
for i = 3, #ARGV, 2 do
  local b = load(ARGV[i])
  local outcome = 'unknown'
  if b and b.token == ARGV[i + 1] then outcome = b.committed and 'committed' or commit(b) end
  outcomes[#outcomes + 1] = outcome
end
keep_watermark()
return finish(outcomes)
