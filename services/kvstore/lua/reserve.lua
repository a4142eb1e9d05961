-- ARGV: now, limits, lease or '', parent key or '', tenant, model, tenant's quota, pinned 0/1, then key, size,
-- token ... -> an outcome each: reserved, exists, busy, no_parent, no_capacity, quota; or 'no_lease' alone.
local FIRST = 9
sweep()
local lease, parent_key, tenant, model, quota, pinned = ARGV[3], ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7]), ARGV[8]
if lease ~= '' and not lease_lives(lease) then return finish({ 'no_lease' }) end

local function within_quota(size)
  if quota == 0 then return true end
  if size > quota then return false end
  while value('tenants', tenant) + size > quota do
    local key = redis.call('ZRANGE', at('owned:' .. tenant), 0, 0)[1]
    if not key then return false end
    evict(load(key), 'quota')
  end
  return true
end

local function create(key, size, token, parent)
  local b = {
    key = key, size = size, token = token, tenant = tenant, model = model, parent = parent and parent.key or '',
    parent_token = parent and parent.token or '', last = 0, touched = now, hits = recall(key), children = 0, holds = 0,
    ranked = UNRANKED, committed = false, grown = false, pinned = pinned == '1',
  }
  if parent then adopt(parent) end
  redis.call('ZADD', at('pending'), now + limits.reserve, key)
  charge(b, 1)
  charge_pending(b, 1)
  save(b)
  return b
end

local function room(size, parent)
  if parent then
    parent.holds = parent.holds + 1
    update_leaf(parent)
  end
  local refusal = nil
  if size > limits.capacity then
    refusal = 'no_capacity'
  elseif not within_quota(size) then
    refusal = 'quota'
  elseif not evict_down_to(limits.capacity - size, math.huge) then
    refusal = 'no_capacity'
  end
  if parent then
    parent.holds = parent.holds - 1
    update_leaf(parent)
  end
  return refusal
end

local function reserve(key, size, token)
  local b = load(key)
  if b then
    if lease ~= '' and b.committed then hold(lease, b) end
    return b.committed and 'exists' or 'busy'
  end
  local parent = parent_key ~= '' and load(parent_key)
  if parent_key ~= '' and not parent then return 'no_parent' end
  local refusal = room(size, parent)
  if refusal then return refusal end
  b = create(key, size, token, parent)
  if lease ~= '' then hold(lease, b) end
  return 'reserved'
end

local outcomes = {}
for i = FIRST, #ARGV, 3 do
  outcomes[#outcomes + 1] = reserve(ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2])
  count('put:' .. outcomes[#outcomes])
  parent_key = ARGV[i]
end
return finish(outcomes)
