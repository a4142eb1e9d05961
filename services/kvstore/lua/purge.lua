-- ARGV: now, limits, tenant or '', model or '', cursor -> next cursor, blocks removed. Lent and pinned blocks go too.
sweep()
local tenant, model = ARGV[3], ARGV[4]
local found = redis.call('HSCAN', at('blocks'), ARGV[5], 'COUNT', CHUNK)
local chosen = {}
for i = 1, #found[2], 2 do
  local b = load(found[2][i])
  if b and (tenant == '' or b.tenant == tenant) and (model == '' or b.model == model) then chosen[#chosen + 1] = b end
end
for _, b in ipairs(chosen) do erase(b, 'purged') end
return finish({ found[1], #chosen })
