-- Changes of bibs that were not handled yet. See sql_files.py for the form.

-- name: claim_new_bibs
-- Mark changes of bibs as handled, of the partners with the oldest ones, and return them by partner.
WITH waiting AS (
    SELECT b.bib_change_id, b.timing_partner_id, b.recorded_at FROM runsignup_bib_changes b
    WHERE NOT EXISTS (SELECT FROM bib_changes_handled h WHERE h.bib_change_id = b.bib_change_id)
        AND b.recorded_at > now() - make_interval(days => :days)
    ORDER BY b.recorded_at
    LIMIT :limit
), first AS (
    SELECT timing_partner_id FROM waiting GROUP BY 1 ORDER BY min(recorded_at), 1 LIMIT :partners
), new AS (
    INSERT INTO bib_changes_handled (bib_change_id)
    SELECT bib_change_id FROM waiting JOIN first USING (timing_partner_id)
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
