-- Changes of bibs that were not handled yet. See sql_files.py for the form.

-- name: claim_new_bibs
-- Mark changes of bibs as handled, and return them by partner.
WITH new AS (
    INSERT INTO bib_changes_handled (bib_change_id)
    SELECT b.bib_change_id FROM runsignup_bib_changes b
    WHERE NOT EXISTS (SELECT FROM bib_changes_handled h WHERE h.bib_change_id = b.bib_change_id)
        AND b.recorded_at > now() - make_interval(days => :days)
    ORDER BY b.recorded_at
    LIMIT :limit
    ON CONFLICT DO NOTHING
    RETURNING bib_change_id
)
SELECT b.timing_partner_id, t.partition_key, count(*) FILTER (WHERE b.kind = 'assigned'),
    count(*) FILTER (WHERE b.kind = 'changed'), count(*) FILTER (WHERE b.kind = 'cleared'),
    min(b.recorded_at), max(b.recorded_at),
    max(extract(epoch FROM b.recorded_at) - b.modified_epoch)::float
FROM new JOIN runsignup_bib_changes b USING (bib_change_id) JOIN timing_partners t USING (timing_partner_id)
GROUP BY b.timing_partner_id, t.partition_key
ORDER BY b.timing_partner_id;
