-- Which block to let go: the one whose bytes earn the fewest hits for the time they would go on being kept.
--
-- LRU fails on conversations because the pool turns over in seconds while a user's next turn takes minutes: what is
-- kept must be chosen, and recency alone does not choose. Two facts are cheap and tell blocks apart: how often a block
-- has been used, and how long ago. We learn, for each use count (CLASSES) and age (BINS, two an octave, so that any
-- pool size fits), how likely the next use is, and rank by Gittins' index: the best ratio, over all times to wait, of
-- expected hits to expected time kept. That is "least hit density" (Beckmann, Chen, Cidon: LHD, NSDI 2018) with the
-- stopping rule that is optimal for one item of a known lifetime law (Gittins, J. R. Stat. Soc. B 41, 1979).
-- A block that never had a successor is a class of its own: the ends of chains are reused far less than their stems.
--
-- What evicted blocks would have earned must be known too, so evicted keys stay for a while as ghosts (ARC, Megiddo
-- and Modha, FAST 2003): they feed the statistics, and a block that comes back takes its use count with it. Their
-- number follows the pool's, near the sample of ten times the cache that TinyLFU keeps (Einziger, Friedman, Manes,
-- ACM TOS 2017): what returns only long after any block would have gone should not count as used.
-- A life runs from one use to the next, resident or not. Lives still running are counted by the COHORT they began in,
-- so that the estimate is Kaplan and Meier's (1958), not biased towards the lives that ended soon.
--
-- Until something has been seen the prior stands alone: the same chance in each half octave of age, so the likelihood
-- of a use falls as age grows, and the order is LRU's. Statistics are halved once per two turnovers of everything
-- remembered, so the policy follows a change of traffic. Age is counted in block uses, not seconds: it is comparable
-- at any load. An eviction takes O(bins + log blocks); there are O(CLASSES * BINS) numbers plus the running cohorts
-- and at most `limits.ghosts` ghosts. The constants are coarse: on two unlike traces 8 to 16 ghosts per block and 8 to
-- 256 prior lives come out alike, and all likelihoods are learnt while running.

local CLASSES, BINS, COHORT = 6, 40, 1024
local CHAIN_END = 5
local PRIOR_LIVES, PRIOR_CHANCE = 32, 0.125
local RERANK_EVERY = 2048
local GHOSTS_PER_BLOCK, TRIM = 8, 16

local function class_of(b)
  if b.hits == 0 then return b.grown and 0 or CHAIN_END end
  return math.min(b.hits, 4)
end

-- Ages from edge(n) up to edge(n + 1) fall into bin n: 0, .5, 1, 2, 3, 5, 7, 11, ...
local function edge(n)
  local octave = 2 ^ math.floor(n / 2)
  return (n % 2 == 0 and octave or 1.5 * octave) - 1
end

local function bin_of(age)
  local mantissa, exponent = math.frexp(age + 1)
  return math.min(2 * (exponent - 1) + (mantissa >= 0.75 and 1 or 0), BINS - 1)
end

local function learn(kind, class, number, amount)
  add('learn', kind .. ':' .. class .. ':' .. number, amount)
end

local function begin_life(class, last, lives) learn('alive', class, math.floor(last / COHORT), lives or 1) end

local function end_life(class, last, lives) learn('alive', class, math.floor(last / COHORT), -(lives or 1)) end

local function reused(class, last, lives)
  end_life(class, last, lives)
  learn('reused', class, bin_of(value('count', 'clock') - last), lives or 1)
end

local function lose(key)
  local class, last = struct.unpack('>BdI4', redis.call('HGET', at('ghost'), key))
  redis.call('HDEL', at('ghost'), key)
  end_life(class, last)
  learn('lost', class, bin_of(value('count', 'clock') - last), 1)
end

local function remember(b)
  redis.call('HSET', at('ghost'), b.key, struct.pack('>BdI4', class_of(b), b.last, b.hits))
  redis.call('ZADD', at('ghosts'), b.last, b.key)
  local most = math.min(limits.ghosts, GHOSTS_PER_BLOCK * value('count', 'blocks'))
  local excess = math.min(redis.call('ZCARD', at('ghosts')) - most, TRIM)
  if excess <= 0 then return end
  local oldest = redis.call('ZPOPMIN', at('ghosts'), excess)
  for i = 1, #oldest, 2 do lose(oldest[i]) end
end

-- The use count of a block that is put again, 0 for one never seen.
local function recall(key)
  local ghost = redis.call('HGET', at('ghost'), key)
  if not ghost then return 0 end
  local class, last, hits = struct.unpack('>BdI4', ghost)
  redis.call('HDEL', at('ghost'), key)
  redis.call('ZREM', at('ghosts'), key)
  reused(class, last)
  return hits + 1
end

local function empty_table()
  local t = {}
  for i = 0, CLASSES * BINS - 1 do t[i] = 0 end
  return t
end

-- Lives by class * BINS + bin: ended by a use, ended by oblivion, still running.
local function statistics(clock)
  local seen = { reused = empty_table(), lost = empty_table(), alive = empty_table() }
  local fields = redis.call('HGETALL', at('learn'))
  for i = 1, #fields, 2 do
    local kind, class, number = string.match(fields[i], '(%a+):(%d+):(%d+)')
    local bin = tonumber(number)
    if kind == 'alive' then bin = bin_of(math.max(0, clock - (bin + 0.5) * COHORT)) end
    local slot = class * BINS + bin
    seen[kind][slot] = seen[kind][slot] + fields[i + 1]
  end
  return seen
end

-- The chance of a use in each bin for lives that reach it. Few lives reach an old bin: what they show is weighed
-- against PRIOR_LIVES that do as they did one bin earlier.
local function chances(seen, class)
  local reach = { [BINS] = 0 }
  for bin = BINS - 1, 0, -1 do
    local slot = class * BINS + bin
    reach[bin] = reach[bin + 1] + seen.reused[slot] + seen.lost[slot] + seen.alive[slot]
  end
  local chance, before = {}, PRIOR_CHANCE
  for bin = 0, BINS - 1 do
    local exposed = (reach[bin] + reach[bin + 1]) / 2
    before = math.min(1, (seen.reused[class * BINS + bin] + PRIOR_LIVES * before) / (exposed + PRIOR_LIVES))
    chance[bin] = before
  end
  return chance
end

local function gittins(chance, bin)
  local best, hits, time, survive = 0, 0, 0, 1
  for n = bin, BINS - 1 do
    hits = hits + survive * chance[n]
    time = time + survive * (1 - chance[n] / 2) * (edge(n + 1) - edge(n))
    survive = survive * (1 - chance[n])
    best = math.max(best, hits / time)
  end
  return best
end

local function forget_half(seen)
  for slot = 0, CLASSES * BINS - 1 do
    for _, kind in ipairs({ 'reused', 'lost' }) do
      learn(kind, math.floor(slot / BINS), slot % BINS, -math.ceil(seen[kind][slot] / 2))
    end
  end
end

-- The order of eviction, one byte (class * BINS + bin) a place, worst first.
local function rerank(clock)
  write_sums()
  local seen, places = statistics(clock), {}
  for class = 0, CLASSES - 1 do
    local chance = chances(seen, class)
    for bin = 0, BINS - 1 do
      places[#places + 1] = { worth = gittins(chance, bin), class = class, bin = bin }
    end
  end
  table.sort(places, function(a, b)
    if a.worth ~= b.worth then return a.worth < b.worth end
    if a.bin ~= b.bin then return a.bin > b.bin end
    return a.class < b.class
  end)
  local bytes = {}
  for i, place in ipairs(places) do bytes[i] = string.char(place.class * BINS + place.bin) end
  local order = table.concat(bytes)
  redis.call('SET', at('order'), order)
  count('next_rank', clock + RERANK_EVERY - value('count', 'next_rank'))
  if clock >= value('count', 'next_halving') then
    if value('count', 'next_halving') > 0 then forget_half(seen) end
    local remembered = value('count', 'blocks') + redis.call('ZCARD', at('ghosts'))
    count('next_halving', clock + 2 * remembered - value('count', 'next_halving'))
  end
  return order
end

-- Leaves: blocks without successors that nobody holds. Only they can be evicted, so a chain shrinks from its end.
local order, place_of
local cursor = 1

local function load_order()
  local clock = value('count', 'clock')
  order = redis.call('GET', at('order'))
  if not order or clock >= value('count', 'next_rank') then order = rerank(clock) end
  place_of = {}
  for i = 1, #order do place_of[string.byte(order, i)] = i end
end

local function leaf_added(b)
  if not order then return end
  local slot = b.ranked * BINS + bin_of(value('count', 'clock') - b.last)
  cursor = math.min(cursor, place_of[slot])
end

-- The key of the leaf that is worth least, nil where there is none.
local function victim()
  if not order then load_order() end
  local clock = value('count', 'clock')
  while cursor <= #order do
    local slot = string.byte(order, cursor)
    local class, bin = math.floor(slot / BINS), slot % BINS
    local oldest = bin == BINS - 1 and '-inf' or '(' .. string.format('%.17g', clock - edge(bin + 1))
    local key = redis.call('ZRANGEBYSCORE', at('leaf:' .. class), oldest, clock - edge(bin), 'LIMIT', 0, 1)[1]
    if key then return key end
    cursor = cursor + 1
  end
end
