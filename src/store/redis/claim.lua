-- KEYS: the entry. ARGV: the tag, the version of the claim, the length of the lease in milliseconds, 1 if a WAIT
-- follows, and the nonce of the call. Every reply begins with it, so that a reply to another call is never taken for
-- the reply to this one. Then nil if there is no entry, or how long the lease found has to run (0: none; -1: it is
-- taken, and takes the place of one that had run out), the entry, and how it begins now if that has changed. A lease
-- that takes the place of another ends at an odd millisecond, any other that is taken at an even one: thus the same
-- call is told the same again. Numbers for commands are strings, and no string is made twice: Redis prints the ones and
-- hashes the others.

-- Every call ends with a write, or fails where nothing may be written: a replica, or a master that is cut off from its
-- own, must not say that a grant is gone, nor whose it is.
local function as_master(answer)
    redis.call('SETRANGE', KEYS[1], '0', '')
    return answer
end

local entry = redis.call('GET', KEYS[1])
if not entry then
    -- Anybody can ask for what is not there: a write that is waited for would hold up the claims behind this one.
    return as_master({ARGV[5], false})
end
if #entry < 47 or string.byte(entry) ~= 1 then return as_master({ARGV[5], 0, entry}) end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local last = struct.unpack('>I6', entry, 10)
local left = math.max(last - now, 0)
local version = string.sub(entry, 2, 9)
if version == ARGV[2] then
    -- This very call has been made before. Written again: a WAIT waits for what its own connection has written.
    redis.call('SETRANGE', KEYS[1], '1', version)
    return {ARGV[5], last % 2 == 1 and -1 or 0, entry}
end
if string.sub(entry, 16, 47) ~= ARGV[1] then
    -- What another call has written decides about this one: the WAIT is for that write, whoever made it.
    if ARGV[4] ~= '1' then return as_master({ARGV[5], left, entry}) end
    redis.call('SETRANGE', KEYS[1], '1', version)
    return {ARGV[5], left, entry}
end
if left > 0 then return as_master({ARGV[5], left, entry}) end

-- Not the whole entry: its time to live stays, and replicas and the append-only file get 14 bytes.
local over = last > 0 and 1 or 0
local finish = now + ARGV[3]
local head = ARGV[2] .. struct.pack('>I6', finish - finish % 2 + over)
redis.call('SETRANGE', KEYS[1], '1', head)
return {ARGV[5], -over, entry, head}
