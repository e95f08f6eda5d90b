-- What a session waited for. See sql_files.py for the form.

-- name: find_lock_holders
-- Find the sessions that have locked one of these tables, or the lock of a change of the schema.
SELECT a.pid, coalesce(nullif(a.application_name, ''), 'a program without a name'), a.usename::text,
    coalesce(host(a.client_addr), 'this machine'), coalesce(a.xact_start, a.backend_start),
    coalesce(array_agg(DISTINCT c.relname::text ORDER BY c.relname::text) FILTER (WHERE c.oid IS NOT NULL), '{}')
FROM pg_locks l JOIN pg_stat_activity a USING (pid) LEFT JOIN pg_class c ON c.oid = l.relation
WHERE l.granted AND l.pid <> pg_backend_pid()
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (l.relation IN (SELECT to_regclass(quote_ident(name)) FROM unnest(:'tables'::text[]) name)
        OR (l.locktype = 'advisory' AND l.classid::bigint = :class AND l.objid::bigint = :lock AND l.objsubid = 2))
GROUP BY 1, 2, 3, 4, 5 ORDER BY 5;

-- name: find_blockers
-- Find the sessions whose transaction has locked rows or tables of the hub for a while, the longest first.
-- Another role's times are NULL for a role that may not see them. Reading locks nobody out but a change of the schema.
SELECT a.pid, coalesce(nullif(a.application_name, ''), 'a program without a name'), a.usename::text,
    coalesce(host(a.client_addr), 'this machine'), a.xact_start, l.tables
FROM pg_stat_activity a
CROSS JOIN LATERAL (
    SELECT array_agg(DISTINCT c.relname::text ORDER BY c.relname::text) AS tables
    FROM pg_locks k JOIN pg_class c ON c.oid = k.relation
    WHERE k.pid = a.pid AND k.granted AND k.mode <> 'AccessShareLock' AND c.relkind IN ('r', 'p')
        AND c.relnamespace = quote_ident(current_schema())::regnamespace
) l
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND l.tables IS NOT NULL
    AND coalesce(a.xact_start <= clock_timestamp() - make_interval(secs => :seconds), true)
ORDER BY a.xact_start NULLS LAST;
