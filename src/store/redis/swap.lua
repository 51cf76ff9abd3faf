-- KEYS: the entry, and perhaps a value beside it. ARGV: how the entry expected begins (format and version; empty: it
-- is absent), the new entry (empty: remove it), its time to live in milliseconds (empty: keep it), then the value
-- beside and its time to live; last the nonce of the call, with which every reply begins.
-- Then 1 if the change stands, 0 if the entry is absent and should not be, or the entry that was found.
local nonce = ARGV[#ARGV]
local found = redis.call('GET', KEYS[1])
local remove = ARGV[2] == ''

if not found then
    if remove then
        -- Perhaps it has just been removed. A WAIT behind this call waits for what its own connection has written.
        redis.pcall('SET', KEYS[1], '', 'PX', '1')
        redis.call('UNLINK', KEYS[1])
        return {nonce, 1}
    end
    if ARGV[1] ~= '' or ARGV[3] == '' then
        -- The same, and it fails where nothing may be written.
        redis.call('SET', KEYS[1], '', 'PX', '1')
        redis.call('UNLINK', KEYS[1])
        return {nonce, 0}
    end
else
    local head = string.sub(found, 1, 9)
    if not remove and head == string.sub(ARGV[2], 1, 9) then
        -- This very call has been made before. Written again for the sake of a WAIT, as above.
        redis.call('SETRANGE', KEYS[1], '0', head)
        return {nonce, 1}
    end
    if ARGV[1] == '' or head ~= ARGV[1] then
        -- Another write was here first. Written again as well: it counts once the replicas have it.
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
if KEYS[2] then redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[5]) end
return {nonce, 1}
