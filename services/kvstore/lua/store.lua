-- Records and counters of one namespace. A script reads records into `blocks`, changes them there, and writes all
-- changes back once in `finish`. All keys share the prefix KEYS[1], whose hash tag keeps them in one slot.

local prefix = KEYS[1]
local limits = cjson.decode(ARGV[2])

local function at(name) return prefix .. name end

-- Redis refuses a script that would grow a full memory only at its first write. This one never grows anything, so
-- no script is refused half-way, and eviction works on a full Redis.
redis.call('DEL', at('none'))

local now
if ARGV[1] ~= '' then
  now = tonumber(ARGV[1])
else
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local VERSION = 1
local FORMAT = '>BBBdddI4I4I4I2c0I2c0I2c0I2c0I2c0'
local COMMITTED, GROWN, PINNED = 1, 2, 4
local UNRANKED = 255
local CHUNK = 1000 -- fewer than the arguments Lua can pass on its stack

local blocks, changed = {}, {}

local function decode(key, raw)
  if not raw then return nil end
  local ok, version, flags, ranked, size, last, touched, hits, children, holds, parent, parent_token, token, tenant,
    model = pcall(struct.unpack, FORMAT, raw)
  if not ok or version ~= VERSION then return nil end
  return {
    key = key, size = size, parent = parent, parent_token = parent_token, token = token, tenant = tenant,
    model = model, last = last, touched = touched, hits = hits, children = children, holds = holds, ranked = ranked,
    committed = bit.band(flags, COMMITTED) > 0, grown = bit.band(flags, GROWN) > 0,
    pinned = bit.band(flags, PINNED) > 0,
  }
end

local function encode(b)
  local flags = (b.committed and COMMITTED or 0) + (b.grown and GROWN or 0) + (b.pinned and PINNED or 0)
  return struct.pack(FORMAT, VERSION, flags, b.ranked, b.size, b.last, b.touched, b.hits, b.children, b.holds,
    #b.parent, b.parent, #b.parent_token, b.parent_token, #b.token, b.token, #b.tenant, b.tenant, #b.model, b.model)
end

local function load(key)
  if blocks[key] == nil then blocks[key] = decode(key, redis.call('HGET', at('blocks'), key)) or false end
  return blocks[key]
end

-- `load` for ARGV[first .. last], at most CHUNK keys, in one call.
local function load_arguments(first, last)
  local found = redis.call('HMGET', at('blocks'), unpack(ARGV, first, last))
  for i, raw in ipairs(found) do
    local key = ARGV[first + i - 1]
    if blocks[key] == nil then blocks[key] = decode(key, raw) or false end
  end
end

local function save(b)
  blocks[b.key] = b
  changed[b.key] = true
end

local function forget(b)
  blocks[b.key] = false
  changed[b.key] = true
end

-- Sums kept in hashes: `count` (bytes, clock, events), `tenants` (bytes each), `learn` (what the policy has seen).
local added = { count = {}, tenants = {}, learn = {} }
local stored = {}

local function add(hash, field, amount)
  added[hash][field] = (added[hash][field] or 0) + amount
end

local function count(field, amount) add('count', field, amount or 1) end

local function value(hash, field)
  local name = hash .. ' ' .. field
  if not stored[name] then stored[name] = tonumber(redis.call('HGET', at(hash), field) or 0) end
  return stored[name] + (added[hash][field] or 0)
end

local function in_chunks(command, name, arguments)
  for i = 1, #arguments, CHUNK do
    redis.call(command, at(name), unpack(arguments, i, math.min(i + CHUNK - 1, #arguments)))
  end
end

-- Write the sums. `learn` is read as a whole by the policy, so it may need them before the end.
local function write_sums()
  for hash, fields in pairs(added) do
    for field, amount in pairs(fields) do
      if amount ~= 0 and redis.call('HINCRBY', at(hash), field, amount) == 0 then
        redis.call('HDEL', at(hash), field)
      end
    end
    added[hash] = {}
  end
  stored = {}
end

local function finish(answer)
  local written, removed = {}, {}
  for key in pairs(changed) do
    local b = blocks[key]
    if b then
      written[#written + 1] = key
      written[#written + 1] = encode(b)
    else
      removed[#removed + 1] = key
    end
  end
  in_chunks('HSET', 'blocks', written)
  in_chunks('HDEL', 'blocks', removed)
  write_sums()
  return answer
end
