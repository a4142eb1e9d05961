-- What happens to a block between its put and its end, and to the leases that hold it.

local SWEEP = 512 -- idle blocks one script drops
local EVICT = 2048 -- blocks one script evicts above the high watermark

local function update_leaf(b)
  local free = b.committed and b.children == 0 and b.holds == 0 and not b.pinned
  local class = free and class_of(b) or UNRANKED
  if b.ranked ~= UNRANKED and b.ranked ~= class then
    redis.call('ZREM', at('leaf:' .. b.ranked), b.key)
    if not free then redis.call('ZREM', at('owned:' .. b.tenant), b.key) end
  end
  b.ranked = class
  if free then
    redis.call('ZADD', at('leaf:' .. class), b.last, b.key)
    redis.call('ZADD', at('owned:' .. b.tenant), b.last, b.key)
    leaf_added(b)
  end
  save(b)
end

local function charge(b, sign)
  count('bytes', sign * b.size)
  count('blocks', sign)
  add('tenants', b.tenant, sign * b.size)
end

local function charge_pending(b, sign)
  count('pending_bytes', sign * b.size)
  count('pending', sign)
end

local function parent_of(b)
  local parent = b.parent ~= '' and load(b.parent)
  return parent and parent.token == b.parent_token and parent
end

-- The record goes at once; the value, which may live in another slot, is garbage for the service to delete.
local function remove(b, cause)
  if b.ranked ~= UNRANKED then
    redis.call('ZREM', at('leaf:' .. b.ranked), b.key)
    redis.call('ZREM', at('owned:' .. b.tenant), b.key)
  end
  if not b.committed then
    redis.call('ZREM', at('pending'), b.key)
    charge_pending(b, -1)
  end
  charge(b, -1)
  count('removed:' .. cause)
  redis.call('SADD', at('garbage'), b.token .. ' ' .. b.key)
  forget(b)
  local parent = parent_of(b)
  if parent then
    parent.children = parent.children - 1
    update_leaf(parent)
  end
end

local function evict(b, cause)
  remember(b)
  remove(b, cause)
end

local function erase(b, cause)
  if b.committed then end_life(class_of(b), b.last) end
  remove(b, cause)
end

-- A use of committed blocks: a life of each ends, the next begins. Most of a chain has lived alike: learnt in runs.
local function touch(used)
  local clock = value('count', 'clock')
  local class, last, lives = nil, nil, 0
  local function learn_run()
    if lives == 0 then return end
    reused(class, last, lives)
    begin_life(math.min(class == CHAIN_END and 1 or class + 1, 4), clock, lives)
  end
  for _, b in ipairs(used) do
    if class_of(b) ~= class or b.last ~= last then
      learn_run()
      class, last, lives = class_of(b), b.last, 0
    end
    lives = lives + 1
    b.hits, b.last, b.touched = b.hits + 1, clock, now
    if b.ranked == UNRANKED then save(b) else update_leaf(b) end
  end
  learn_run()
end

local function adopt(parent)
  local class = class_of(parent)
  parent.children = parent.children + 1
  parent.grown = true
  if parent.committed and class_of(parent) ~= class then
    end_life(class, parent.last)
    begin_life(class_of(parent), parent.last)
  end
  update_leaf(parent)
end

-- A hold on a block keeps its whole prefix, because only leaves are evicted.
local function hold(lease, b)
  if redis.call('HGET', at('lease:' .. lease), b.key) ~= b.token then
    redis.call('HSET', at('lease:' .. lease), b.key, b.token)
    b.holds = b.holds + 1
    update_leaf(b)
  end
end

local function lease_lives(lease)
  return lease ~= '' and redis.call('ZSCORE', at('leases'), lease) ~= false
end

local function drop_lease(lease)
  local held = redis.call('HGETALL', at('lease:' .. lease))
  for i = 1, #held, 2 do
    local b = load(held[i])
    if b and b.token == held[i + 1] then
      b.holds = b.holds - 1
      update_leaf(b)
    end
  end
  redis.call('DEL', at('lease:' .. lease))
  redis.call('ZREM', at('leases'), lease)
end

local function drop_idle()
  local dropped, progress = 0, true
  while progress do
    progress = false
    for class = 0, CLASSES - 1 do
      local key = redis.call('ZRANGE', at('leaf:' .. class), 0, 0)[1]
      local b = key and load(key)
      if b and b.touched + limits.ttl <= now and dropped < SWEEP then
        evict(b, 'ttl')
        dropped, progress = dropped + 1, true
      end
    end
  end
end

-- Everything that time alone has ended. Each script does this first, so nothing expired is seen by any of them.
local function sweep()
  for _, lease in ipairs(redis.call('ZRANGEBYSCORE', at('leases'), '-inf', now)) do
    drop_lease(lease)
    count('leases_expired')
  end
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', at('pending'), '-inf', now)) do
    local b = load(key)
    if b then erase(b, 'reaped') else redis.call('ZREM', at('pending'), key) end
  end
  if limits.ttl > 0 then drop_idle() end
end

-- Evict until `bytes` are held at most; false where what is left is lent, pinned or being written.
local function evict_down_to(bytes, most)
  local evicted = 0
  while value('count', 'bytes') > bytes and evicted < most do
    local key = victim()
    if not key then break end
    evict(load(key), 'capacity')
    evicted = evicted + 1
  end
  return value('count', 'bytes') <= bytes
end

local function keep_watermark()
  if value('count', 'bytes') > limits.high then evict_down_to(limits.low, EVICT) end
end
