-- `{schema}` is the quoted name of the schema. All times are in milliseconds since the Unix epoch, by the clock of the
-- server.

CREATE TABLE {schema}.entries (
    key bytea PRIMARY KEY,
    version bytea NOT NULL,
    tag bytea NOT NULL,
    lease bigint,
    -- Whether the lease replaced an expired one.
    taken_over boolean NOT NULL DEFAULT false,
    value bytea NOT NULL,
    expires bigint NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX entries_by_expiry ON {schema}.entries (expires);

CREATE TABLE {schema}.sidecars (
    key bytea NOT NULL,
    name bytea NOT NULL,
    value bytea NOT NULL,
    expires bigint NOT NULL,
    PRIMARY KEY (key, name)
);
CREATE INDEX sidecars_by_expiry ON {schema}.sidecars (expires);

-- The values are encrypted, so compressing them would only cost time.
ALTER TABLE {schema}.entries ALTER COLUMN value SET STORAGE EXTERNAL;
ALTER TABLE {schema}.sidecars ALTER COLUMN value SET STORAGE EXTERNAL;

CREATE FUNCTION {schema}.now_ms() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
$$;

-- Fails on a server that is read-only, because its data may be old; and for a call that arrives after its deadline,
-- because the client no longer waits and may have sent it again. Limits how long the call waits for a row.
CREATE FUNCTION {schema}.assert_in_time(p_deadline bigint) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    remaining bigint := p_deadline - {schema}.now_ms();
BEGIN
    IF current_setting('transaction_read_only')::boolean THEN
        RAISE EXCEPTION 'the server is read-only' USING ERRCODE = '25006';
    END IF;
    IF remaining < 0 THEN
        RAISE EXCEPTION 'the call arrived after its deadline' USING ERRCODE = 'TR001';
    END IF;
    PERFORM set_config('lock_timeout', least(remaining + 1, 2147483647)::text, true);
END $$;

CREATE FUNCTION {schema}.get_1(p_key bytea, p_deadline bigint)
RETURNS TABLE (o_now bigint, o_version bytea, o_tag bytea, o_lease bigint, o_value bytea)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    found_entry {schema}.entries;
BEGIN
    PERFORM {schema}.assert_in_time(p_deadline);
    SELECT * INTO found_entry FROM {schema}.entries WHERE key = p_key AND expires > {schema}.now_ms();
    RETURN QUERY SELECT {schema}.now_ms(), found_entry.version, found_entry.tag, found_entry.lease, found_entry.value;
END $$;

CREATE FUNCTION {schema}.sidecar_1(p_key bytea, p_name bytea, p_deadline bigint)
RETURNS TABLE (o_now bigint, o_value bytea)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    found_value bytea;
BEGIN
    PERFORM {schema}.assert_in_time(p_deadline);
    SELECT value INTO found_value FROM {schema}.sidecars
        WHERE key = p_key AND name = p_name AND expires > {schema}.now_ms();
    RETURN QUERY SELECT {schema}.now_ms(), found_value;
END $$;

-- Takes the lease of `p_lease` milliseconds if the entry has this tag and no lease is held. Returns the entry after the
-- call, and the time that is left of a lease that was found.
--
-- Only a claim that takes the lease writes. It finds the version that it has read, or reads again: so of several claims
-- at a time one takes the lease.
CREATE FUNCTION {schema}.claim_1(p_key bytea, p_tag bytea, p_version bytea, p_lease bigint, p_deadline bigint)
RETURNS TABLE (
    o_now bigint, o_version bytea, o_tag bytea, o_lease bigint, o_value bytea, o_left bigint, o_taken_over boolean
)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    found_entry {schema}.entries;
    found_at bigint;
BEGIN
    LOOP
        PERFORM {schema}.assert_in_time(p_deadline);
        found_at := {schema}.now_ms();
        SELECT * INTO found_entry FROM {schema}.entries WHERE key = p_key AND expires > found_at;
        EXIT WHEN NOT FOUND OR found_entry.version = p_version OR found_entry.tag <> p_tag
            OR found_entry.lease > found_at;
        UPDATE {schema}.entries SET
            version = p_version,
            lease = {schema}.now_ms() + p_lease,
            taken_over = lease IS NOT NULL
            WHERE key = p_key AND version = found_entry.version
                AND expires > {schema}.now_ms() AND {schema}.now_ms() <= p_deadline
            RETURNING * INTO found_entry;
        EXIT WHEN FOUND;
    END LOOP;
    RETURN QUERY SELECT {schema}.now_ms(), found_entry.version, found_entry.tag, found_entry.lease, found_entry.value,
        greatest(found_entry.lease - found_at, 0), found_entry.taken_over;
END $$;

-- Writes the entry, or removes it if `p_version` is null, if it has the version `p_expected` (null: if it is absent).
-- `p_ttl` is null to keep the expiry. Returns whether the change was made, and the entry otherwise.
--
-- A statement that waited for a row reads the clock again, and finds the row as the other call left it.
CREATE FUNCTION {schema}.swap_1(
    p_key bytea, p_expected bytea, p_version bytea, p_tag bytea, p_lease bigint, p_value bytea, p_ttl bigint,
    p_names bytea[], p_values bytea[], p_ttls bigint[], p_deadline bigint
)
RETURNS TABLE (o_now bigint, o_version bytea, o_tag bytea, o_lease bigint, o_value bytea, o_swapped boolean)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    found_entry {schema}.entries;
BEGIN
    LOOP
        PERFORM {schema}.assert_in_time(p_deadline);
        IF p_version IS NULL THEN
            DELETE FROM {schema}.entries
                WHERE key = p_key AND version = p_expected AND expires > {schema}.now_ms();
        ELSIF p_expected IS NOT NULL THEN
            UPDATE {schema}.entries SET
                version = p_version, tag = p_tag, lease = p_lease, taken_over = false, value = p_value,
                expires = CASE WHEN p_ttl IS NULL THEN expires ELSE {schema}.now_ms() + p_ttl END
                WHERE key = p_key AND version = p_expected AND version <> p_version AND expires > {schema}.now_ms();
        ELSE
            -- Replaces an entry that has expired.
            INSERT INTO {schema}.entries AS old (key, version, tag, lease, value, expires)
                SELECT p_key, p_version, p_tag, p_lease, p_value, {schema}.now_ms() + p_ttl WHERE p_ttl IS NOT NULL
                ON CONFLICT (key) DO UPDATE SET
                    version = excluded.version, tag = excluded.tag, lease = excluded.lease, taken_over = false,
                    value = excluded.value, expires = excluded.expires
                    WHERE old.expires <= {schema}.now_ms();
        END IF;
        IF FOUND THEN
            -- The statement may have waited. If it is late, this undoes it.
            PERFORM {schema}.assert_in_time(p_deadline);
            IF p_version IS NULL THEN
                DELETE FROM {schema}.sidecars WHERE key = p_key;
            ELSIF cardinality(p_names) > 0 THEN
                INSERT INTO {schema}.sidecars (key, name, value, expires)
                    SELECT p_key, new.name, new.value, {schema}.now_ms() + new.ttl
                    FROM unnest(p_names, p_values, p_ttls) AS new (name, value, ttl)
                    ON CONFLICT (key, name) DO UPDATE SET value = excluded.value, expires = excluded.expires;
            END IF;
            RETURN QUERY SELECT {schema}.now_ms(), NULL::bytea, NULL::bytea, NULL::bigint, NULL::bytea, true;
            RETURN;
        END IF;
        SELECT * INTO found_entry FROM {schema}.entries WHERE key = p_key AND expires > {schema}.now_ms();
        IF NOT FOUND THEN
            -- An insert that found an entry, which has gone since, is tried again.
            CONTINUE WHEN p_version IS NOT NULL AND p_expected IS NULL AND p_ttl IS NOT NULL;
        ELSIF found_entry.version = p_expected AND found_entry.version IS DISTINCT FROM p_version THEN
            CONTINUE;
        END IF;
        RETURN QUERY SELECT {schema}.now_ms(), found_entry.version, found_entry.tag, found_entry.lease,
            found_entry.value, CASE WHEN p_version IS NULL THEN found_entry.key IS NULL
                ELSE found_entry.version IS NOT DISTINCT FROM p_version END;
        RETURN;
    END LOOP;
END $$;

-- Publishes the payloads to the instances that listen to the channel.
CREATE FUNCTION {schema}.announce_1(p_channel text, p_payloads text[], p_deadline bigint)
RETURNS TABLE (o_now bigint)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM {schema}.assert_in_time(p_deadline);
    PERFORM pg_notify(p_channel, payload) FROM unnest(p_payloads) AS payload;
    RETURN QUERY SELECT {schema}.now_ms();
END $$;

-- Deletes up to `p_most` rows of each table that expired more than `p_keep` milliseconds ago. Skips rows that another
-- call has locked.
CREATE FUNCTION {schema}.purge_1(p_keep bigint, p_most bigint, p_deadline bigint)
RETURNS TABLE (o_now bigint, o_most_deleted bigint)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    before bigint := {schema}.now_ms() - p_keep;
    deleted bigint;
    most_deleted bigint;
BEGIN
    PERFORM {schema}.assert_in_time(p_deadline);
    WITH expired AS (
        SELECT key FROM {schema}.entries WHERE expires < before ORDER BY expires LIMIT p_most FOR UPDATE SKIP LOCKED
    )
    DELETE FROM {schema}.entries USING expired WHERE entries.key = expired.key;
    GET DIAGNOSTICS most_deleted = ROW_COUNT;
    WITH expired AS (
        SELECT key, name FROM {schema}.sidecars WHERE expires < before ORDER BY expires LIMIT p_most
            FOR UPDATE SKIP LOCKED
    )
    DELETE FROM {schema}.sidecars USING expired
        WHERE sidecars.key = expired.key AND sidecars.name = expired.name;
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN QUERY SELECT {schema}.now_ms(), greatest(deleted, most_deleted);
END $$;
