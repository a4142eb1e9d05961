-- ARGV: now, limits, then key, token ... -> an outcome each: revoked, committed, unknown.
sweep()
local outcomes = {}
for i = 3, #ARGV, 2 do
  local b = load(ARGV[i])
  local outcome = 'unknown'
  if b and b.token == ARGV[i + 1] then
    outcome = b.committed and 'committed' or 'revoked'
    if not b.committed then erase(b, 'revoked') end
  end
  outcomes[#outcomes + 1] = outcome
end
return finish(outcomes)
