-- The call ledger. See sql_files.py for the form.

-- name: count_calls
-- Count the calls of the last hour and those in flight, and when the oldest that blocks the lane leaves the hour.
WITH hour AS (
    SELECT granted_at, row_number() OVER (ORDER BY granted_at DESC) AS nth
    FROM api_calls
    WHERE api_key_id = :api_key AND granted_at > statement_timestamp() - interval '1 hour'
),
flight AS (
    SELECT c.lane <> 'race_day' OR {WAS_SLOW} AS other
    FROM api_calls c
    WHERE c.settled_at IS NULL
        AND c.granted_at > statement_timestamp() - make_interval(secs => :stuck)
        AND (:'all' OR c.api_key_id = :api_key)
        AND (c.granted_at > statement_timestamp() - make_interval(secs => :abandoned)
            -- A later session may have been given the number of one that is gone.
            -- The function below pg_stat_activity: of 1.2 ms, PostgreSQL took 0.7 to take the view apart.
            OR EXISTS (SELECT FROM pg_stat_get_activity(c.holder_pid) a
                WHERE a.pid = c.holder_pid AND coalesce(a.backend_start, c.granted_at) <= c.granted_at))
)
SELECT
    (SELECT count(*) FROM hour),
    (SELECT extract(epoch FROM granted_at + interval '1 hour' - statement_timestamp()) FROM hour WHERE nth = :limit),
    (SELECT count(*) FROM flight),
    (SELECT count(*) FROM flight WHERE other),
    {IS_SLOW},
    extract(epoch FROM greatest((SELECT max(granted_at) FROM hour),
        (SELECT max(granted_at) FROM api_calls WHERE settled_at IS NULL AND granted_at > statement_timestamp()))
        - statement_timestamp())::float;

-- name: set_back
-- Move calls that are in the future back. The database's clock was set back, and they would count until that future arrives, so
-- that no call would be left. Moved together, they leave the hour in the order and at the intervals in which they were made.
UPDATE api_calls SET granted_at = granted_at - make_interval(secs => :seconds),
    settled_at = settled_at - make_interval(secs => :seconds)
WHERE granted_at > statement_timestamp();

-- name: find_used_up
-- Find the API keys whose calls of an hour were all used at some moment within the last seconds. They are used up from the call
-- that fills the hour until the first of that hour is older than an hour.
SELECT w.api_key_id FROM unnest(:'api_keys'::bigint[], :'seconds'::float[]) AS w (api_key_id, seconds)
WHERE EXISTS (
    SELECT FROM (
        SELECT c.granted_at, lead(c.granted_at, :limit - 1) OVER (ORDER BY c.granted_at) AS filled_at FROM api_calls c
        WHERE c.api_key_id = w.api_key_id
            AND c.granted_at > statement_timestamp() - interval '1 hour' - make_interval(secs => w.seconds)) h
    WHERE h.filled_at < h.granted_at + interval '1 hour');
