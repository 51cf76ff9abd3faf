-- KEYS: the entry, then its new sidecars. ARGV: the nonce of the call, the first bytes of the expected entry (format and
-- version; empty: the entry must be absent), the new entry (empty: remove it), its time to live in milliseconds (empty:
-- keep the expiry), then each sidecar and its time to live.
--
-- Returns the nonce if the change was made. Otherwise the nonce, and 0 if the entry is absent but was expected, or the
-- conflicting entry.
local nonce = ARGV[1]
local found = redis.call('GET', KEYS[1])
local remove = ARGV[3] == ''

if not found then
    if remove then
        -- It may have just been removed over another connection. Write something, because a WAIT is only guaranteed to
        -- cover the writes of its own connection.
        redis.pcall('SET', KEYS[1], '', 'PX', '1')
        redis.call('UNLINK', KEYS[1])
        return nonce
    end
    if ARGV[2] ~= '' or ARGV[4] == '' then
        -- As above; and the write fails where writes are not allowed, so that only a master reports an absent entry.
        redis.call('SET', KEYS[1], '', 'PX', '1')
        redis.call('UNLINK', KEYS[1])
        return {nonce, 0}
    end
else
    local head = string.sub(found, 1, 9)
    if ARGV[2] == '' or head ~= ARGV[2] then
        -- A conflict, or a repetition of this call. The version is written again, so that a WAIT covers the write that
        -- the result depends on.
        redis.call('SETRANGE', KEYS[1], '0', head)
        if not remove and head == string.sub(ARGV[3], 1, 9) then return nonce end
        return {nonce, found}
    end
end

if remove then
    redis.call('UNLINK', KEYS[1])
elseif ARGV[4] == '' then
    redis.call('SET', KEYS[1], ARGV[3], 'KEEPTTL')
else
    redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
end
for i = 2, #KEYS do redis.call('SET', KEYS[i], ARGV[2 * i + 1], 'PX', ARGV[2 * i + 2]) end
return nonce
