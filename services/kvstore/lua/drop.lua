-- ARGV: now, limits, cause, then key, token ... -> how many of these committed blocks there were; lent ones go too.
sweep()
local dropped = 0
for i = 4, #ARGV, 2 do
  local b = load(ARGV[i])
  if b and b.committed and b.token == ARGV[i + 1] then
    erase(b, ARGV[3])
    dropped = dropped + 1
  end
end
return finish(dropped)
