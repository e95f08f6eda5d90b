-- Fields of registrations that are unknown, or known in another form. See sql_files.py for the form.

-- name: count_drift
-- Count the registrations of a race that were read with each field.
INSERT INTO schema_drift AS d (timing_partner_id, race_id, field, kind, occurrences)
SELECT :partner, :race, field, kind, occurrences FROM unnest(:'kinds'::text[], :'fields'::text[], :'occurrences'::bigint[])
AS f (kind, field, occurrences)
ON CONFLICT (timing_partner_id, race_id, field, kind) DO UPDATE
SET occurrences = d.occurrences + excluded.occurrences, last_seen_at = excluded.last_seen_at;

-- name: read_drift
-- Return the fields of a partner, or of all, the gravest first.
SELECT d.field, d.kind, sum(d.occurrences)::bigint, count(DISTINCT d.timing_partner_id)::int,
    count(DISTINCT d.race_id)::int, min(d.first_seen_at), max(d.last_seen_at),
    d.kind <> 'type' AND EXISTS (SELECT FROM accepted_schema_drift a WHERE a.field = d.field)
FROM schema_drift d
WHERE coalesce(:partner, d.timing_partner_id) = d.timing_partner_id
GROUP BY d.field, d.kind ORDER BY array_position('{type,form,unknown}', d.kind), d.field;
