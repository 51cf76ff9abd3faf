-- KEYS: the entry. ARGV: the version of the claim, the tag, the length of the lease in milliseconds, and 1 if a WAIT
-- follows.
--
-- Every reply begins with the version, so that the client never takes a reply to another call for the reply to this one.
-- Then nil if the entry is absent. If the claim took the lease, the entry as it was and the expiry of the new lease.
-- Otherwise the time left of the lease that was found (0: no lease is held) and the entry.
--
-- A lease that took over an expired one expires at an odd millisecond, any other lease of a claim at an even one. So a
-- repeated call gets the same result. For speed, numbers for commands are strings (Redis would format a number), and no
-- string is built twice (Lua hashes every new string).

-- Every reply is preceded by a write, which fails where writes are not allowed: a replica, or a master without its
-- replicas, must not report that a grant is absent, or which token is its current one.
local function as_master(answer)
    redis.call('SETRANGE', KEYS[1], '0', '')
    return answer
end

local entry = redis.call('GET', KEYS[1])
if not entry then
    -- Any client can cause this, so it must not cost a write that a WAIT waits for: that would delay the claims
    -- behind this one. (SETRANGE with an empty value changes nothing.)
    return as_master({ARGV[1], false})
end
if #entry < 47 or string.byte(entry) ~= 1 then return as_master({ARGV[1], 0, entry}) end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local last = struct.unpack('>I6', entry, 10)
local left = math.max(last - now, 0)
local version = string.sub(entry, 2, 9)
if version == ARGV[1] then
    -- A repetition of this call. The version is written again, because a WAIT is only guaranteed to cover the writes of
    -- its own connection.
    redis.call('SETRANGE', KEYS[1], '1', version)
    return {ARGV[1], entry, string.sub(entry, 10, 15)}
end
if string.sub(entry, 16, 47) ~= ARGV[2] then
    -- The result depends on the write of another call. The version is written again, so that the WAIT covers it.
    if ARGV[4] ~= '1' then return as_master({ARGV[1], left, entry}) end
    redis.call('SETRANGE', KEYS[1], '1', version)
    return {ARGV[1], left, entry}
end
if left > 0 then return as_master({ARGV[1], left, entry}) end

-- SETRANGE keeps the time to live, and sends only 14 bytes to the replicas and the append-only file.
local over = last > 0 and 1 or 0
local finish = now + ARGV[3]
local lease = struct.pack('>I6', finish - finish % 2 + over)
redis.call('SETRANGE', KEYS[1], '1', ARGV[1] .. lease)
return {ARGV[1], entry, lease}
