-- Start lists as they are stored. See sql_files.py for the form.

-- name: read_problems
-- Return some of a partner's entrants with problems, first start first.
SELECT s.registration_id, s.event_id, s.problems
FROM start_list_entries s JOIN runsignup_events e USING (event_id)
WHERE s.timing_partner_id = :partner AND s.problems <> '{}'
    AND (:'only'::text[] = '{}' OR s.problems && :'only'::text[])
    AND (:'events'::bigint[] IS NULL OR s.event_id = ANY (:'events'::bigint[]))
ORDER BY e.starts_at NULLS LAST, s.event_id, s.registration_id LIMIT :limit;
