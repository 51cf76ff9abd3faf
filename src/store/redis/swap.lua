-- KEYS: the entry, then its new sidecars. ARGV: the first bytes of the expected entry (format and version; empty: the
-- entry must be absent), the new entry (empty: remove it), its time to live in milliseconds (empty: keep the expiry),
-- then each sidecar and its time to live, and last the nonce of the call.
--
-- Every reply begins with the nonce. Then 1 if the change was made, 0 if the entry is absent but was expected, or the
-- conflicting entry.
local nonce = ARGV[#ARGV]
local found = redis.call('GET', KEYS[1])
local remove = ARGV[2] == ''

if not found then
    if remove then
        -- It may have just been removed over another connection. Write something, because a WAIT is only guaranteed to
        -- cover the writes of its own connection.
        redis.pcall('SET', KEYS[1], '', 'PX', '1')
        redis.call('UNLINK', KEYS[1])
        return {nonce, 1}
    end
    if ARGV[1] ~= '' or ARGV[3] == '' then
        -- As above; and the write fails where writes are not allowed, so that only a master reports an absent entry.
        redis.call('SET', KEYS[1], '', 'PX', '1')
        redis.call('UNLINK', KEYS[1])
        return {nonce, 0}
    end
else
    local head = string.sub(found, 1, 9)
    if not remove and head == string.sub(ARGV[2], 1, 9) then
        -- A repetition of this call. The version is written again for a WAIT, as above.
        redis.call('SETRANGE', KEYS[1], '0', head)
        return {nonce, 1}
    end
    if ARGV[1] == '' or head ~= ARGV[1] then
        -- A conflict. The version is written again, so that a WAIT covers the write that caused the conflict.
        redis.call('SETRANGE', KEYS[1], '0', head)
        return {nonce, found}
    end
end

if remove then
    redis.call('UNLINK', KEYS[1])
elseif ARGV[3] == '' then
    redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
else
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
for i = 2, #KEYS do redis.call('SET', KEYS[i], ARGV[2 * i], 'PX', ARGV[2 * i + 1]) end
return {nonce, 1}
