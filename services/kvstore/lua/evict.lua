-- ARGV: now, limits, bytes to hold at most, or '' for the watermark -> bytes held.
sweep()
if ARGV[3] == '' then keep_watermark() else evict_down_to(tonumber(ARGV[3]), EVICT) end
return finish(value('count', 'bytes'))
