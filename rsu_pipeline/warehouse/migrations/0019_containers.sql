-- Rows go with their event, their race and the access to it. What is gone or lost is confirmed by a second answer before rows are
-- marked, and everything comes back when RunSignup has it again.

ALTER TABLE runsignup_events ADD COLUMN vanished_at timestamptz;
COMMENT ON COLUMN runsignup_events.vanished_at IS 'When the race''s full detail first lacked it, while nothing else says that it is gone; NULL otherwise. It is still read.';
COMMENT ON COLUMN runsignup_events.gone_at IS 'When it was confirmed that RunSignup no longer has it; NULL while it has. Its registrations are then removed as event_deleted.';

-- One answer was enough before. What still has active registrations is confirmed at the next listing.
UPDATE runsignup_events e SET vanished_at = e.gone_at, gone_at = NULL
WHERE e.gone_at IS NOT NULL AND EXISTS (SELECT FROM runsignup_participants p WHERE p.event_id = e.event_id AND p.removed_at IS NULL);
UPDATE runsignup_races r SET detail_as_of = NULL
WHERE EXISTS (SELECT FROM runsignup_events e WHERE e.race_id = r.race_id AND e.vanished_at IS NOT NULL);

ALTER TABLE partner_races
    DROP CONSTRAINT partner_races_access_check,
    ADD CONSTRAINT partner_races_access_check CHECK (access IN ('unknown', 'granted', 'denied', 'not_found')),
    ADD COLUMN lost_at timestamptz,
    ADD COLUMN lost_reason text CHECK (lost_reason IN ('race_deleted', 'access_lost')),
    ADD COLUMN check_at timestamptz;
COMMENT ON COLUMN partner_races.access IS 'What RunSignup answered when its participants were last requested: granted; denied; not_found: it has no such race; unknown: never requested.';
COMMENT ON COLUMN partner_races.access_changed_at IS 'When access last changed: of a refused race, when it was first refused.';
COMMENT ON COLUMN partner_races.unlisted_at IS 'When a complete listing no longer had it; NULL while listed. It is read until it is lost.';
COMMENT ON COLUMN partner_races.lost_at IS 'When it was confirmed that the partner cannot read it any more; NULL while it can. Its registrations are then removed, and it is no longer due.';
COMMENT ON COLUMN partner_races.lost_reason IS 'race_deleted: RunSignup has no such race. access_lost: it refuses this partner. NULL while it is not lost.';
COMMENT ON COLUMN partner_races.check_at IS 'Of a race that is lost or unlisted: when a listing asks RunSignup for it next; NULL: at the next one.';

COMMENT ON COLUMN runsignup_participants.removed_reason IS 'RunSignup''s word (cleared, removed, transferred, deferred: an open set); missing_upstream: a full read lacked it; event_deleted, race_deleted, access_lost: it went with its event, its race or the access to it.';
COMMENT ON COLUMN runsignup_participants.removed_epoch IS 'RunSignup''s time of the removal, Unix seconds; NULL where RunSignup gave none.';
COMMENT ON COLUMN runsignup_participants.new_registration_id IS 'The registration a transferred one became. Of an event that was deleted: the same person''s registration in the same race that came with the deletion.';
COMMENT ON COLUMN runsignup_races.timing_partner_id IS 'A partner that can read it now (see race_owners); partner_races has all who see it.';
COMMENT ON COLUMN runsignup_events.timing_partner_id IS 'A partner that can read its race now (see race_owners).';

CREATE VIEW race_owners AS
SELECT DISTINCT ON (l.race_id) l.race_id, l.timing_partner_id
FROM partner_races l
JOIN timing_partners t ON t.timing_partner_id = l.timing_partner_id
JOIN runsignup_races r ON r.race_id = l.race_id
LEFT JOIN (
    SELECT c.timing_partner_id, c.rejected_at FROM partner_provider_credentials c JOIN providers v USING (provider_id)
    WHERE lower(v.name) = 'runsignup'
) c ON c.timing_partner_id = l.timing_partner_id
WHERE l.lost_at IS NULL
ORDER BY l.race_id, (l.access = 'granted' AND t.disabled_at IS NULL AND c.rejected_at IS NULL) DESC, l.access = 'granted' DESC,
    l.access = 'unknown' DESC, l.unlisted_at IS NULL DESC, (l.timing_partner_id = r.timing_partner_id) IS TRUE DESC,
    l.timing_partner_id;
COMMENT ON VIEW race_owners IS 'One row: a race and the one partner whose registrations of it the unified views show. Races that nobody can read any more have none.';

CREATE OR REPLACE VIEW unified_participants AS
SELECT 'runsignup'::text AS source_provider, p.timing_partner_id, p.event_id::varchar AS event_id, p.first_name,
    p.last_name, p.email, p.gender, coalesce(rsu_bib(p.bib_num, p.team_info), p.local_bib) AS bib_number,
    p.address ->> 'city' AS city, p.address ->> 'state' AS state, p.age, p.registration_date, p.fetched_date
FROM runsignup_participants p
JOIN runsignup_events e ON e.event_id = p.event_id AND e.gone_at IS NULL
JOIN race_owners o ON o.race_id = e.race_id AND o.timing_partner_id = p.timing_partner_id
WHERE p.removed_at IS NULL;
COMMENT ON VIEW unified_participants IS 'Active registrations, each once, in the columns that race displays read.';

-- A race that no partner is linked to came from another program.
CREATE OR REPLACE VIEW unified_events AS
SELECT 'runsignup'::text AS source_provider, coalesce(o.timing_partner_id, e.timing_partner_id) AS timing_partner_id,
    e.event_id::varchar AS event_id, e.name AS event_name, e.start_time AS event_date, e.fetched_date
FROM runsignup_events e
LEFT JOIN race_owners o ON o.race_id = e.race_id
WHERE e.gone_at IS NULL
    AND (o.race_id IS NOT NULL OR NOT EXISTS (SELECT FROM partner_races l WHERE l.race_id = e.race_id));
COMMENT ON VIEW unified_events IS 'Events of all races that a partner can read, in the columns that race displays read.';

-- A view reads with the rights of its owner, who may be another role since an adoption.
DO $$
DECLARE
    reader text;
BEGIN
    FOR reader IN SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class
        WHERE oid IN ('unified_participants'::regclass, 'unified_events'::regclass) AND pg_get_userbyid(relowner) <> current_user LOOP
        EXECUTE format('GRANT SELECT ON race_owners, runsignup_events, partner_races TO %I', reader);
    END LOOP;
END $$;
