-- ARGV: now, limits, then key, token ... -> 1 for each block, committed or being written, that has that token, else 0.
sweep()
local known = {}
for i = 3, #ARGV, 2 do
  local b = load(ARGV[i])
  known[#known + 1] = b and b.token == ARGV[i + 1] and 1 or 0
end
return finish(known)
