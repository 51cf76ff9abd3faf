-- KEYS: the value. ARGV: the nonce of the call. Returns the nonce, and the value or nil.
return {ARGV[1], redis.call('GET', KEYS[1])}
