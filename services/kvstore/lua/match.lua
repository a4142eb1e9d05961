-- ARGV: now, limits, lease id or '', lease ms, keys ... -> count, tokens, sizes of the longest contiguous prefix,
-- and why the next one isn't: unknown, evicted, pending, detached, or '' where all were found.
local FIRST = 5
sweep()
local lease, found, tokens, sizes, tip = ARGV[3], {}, {}, {}, nil
local wanted = #ARGV - FIRST + 1
for i = FIRST, #ARGV do
  if (i - FIRST) % CHUNK == 0 then load_arguments(i, math.min(i + CHUNK - 1, #ARGV)) end
  local b = blocks[ARGV[i]]
  if not b or not b.committed or (tip and b.parent ~= tip.key) then break end
  tip = b
  found[#found + 1], tokens[#tokens + 1], sizes[#sizes + 1] = b, b.token, b.size
end

local function why_not(key)
  local b = blocks[key]
  if b then return b.committed and 'detached' or 'pending' end
  return redis.call('HEXISTS', at('ghost'), key) == 1 and 'evicted' or 'unknown'
end

touch(found)
count('clock', #tokens)
count('wanted', wanted)
count('found', #tokens)
if lease ~= '' then
  redis.call('ZADD', at('leases'), now + ARGV[4], lease)
  if tip then hold(lease, tip) end
end
return finish({ #tokens, tokens, sizes, #tokens < wanted and why_not(ARGV[FIRST + #tokens]) or '' })
