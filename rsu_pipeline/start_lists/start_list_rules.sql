-- The rules of start lists. See sql_files.py for the form.

-- name: wanted
-- Fragment: wanted, the events that should have a list.
-- A past event must have been read, or an empty list would mean that nobody came.
wanted AS MATERIALIZED (
    SELECT e.event_id, e.race_id, coalesce(e.race_event_days_id, -e.event_id) AS edition, e.start_time::date AS race_day,
        coalesce(e.age_calc_base_date, e.start_time::date) AS age_day, h.changed_at, h.active
    FROM partner_races l JOIN runsignup_events e USING (race_id)
    CROSS JOIN LATERAL (
        SELECT max(p.changed_at) AS changed_at, count(*) FILTER (WHERE p.removed_at IS NULL) AS active
        FROM runsignup_participants p WHERE p.timing_partner_id = :partner AND p.event_id = e.event_id) h
    WHERE l.timing_partner_id = :partner AND e.gone_at IS NULL AND e.volunteer IS NOT TRUE
        AND l.lost_at IS NULL
        AND CASE WHEN {OVER_AT} <= :'now'::timestamptz
            THEN {OVER_AT} > :'now'::timestamptz - :'kept'::interval AND EXISTS (SELECT FROM event_cursors c
                WHERE c.timing_partner_id = l.timing_partner_id AND c.event_id = e.event_id)
            ELSE EXISTS (SELECT FROM future_events f
                WHERE f.timing_partner_id = l.timing_partner_id AND f.event_id = e.event_id) END
);

-- name: is_current
-- Return whether the lists of a partner are those that a rebuild would make.
WITH {WANTED}
SELECT NOT EXISTS (
    SELECT FROM wanted w
    FULL JOIN (SELECT * FROM start_lists WHERE timing_partner_id = :partner) s USING (event_id)
    WHERE w.race_id IS NULL OR s.race_id IS NULL
        OR (w.race_day, w.age_day, w.changed_at, w.active)
            IS DISTINCT FROM (s.race_day, s.age_day, s.registrations_changed_at, s.entrants));

-- name: rebuild
-- Rebuild the lists of a partner, write what differs, and count it.
-- Counted by windows, never by joining rows to each other: a bib that a thousand entrants share would make a million pairs.
-- Of the rows with one bib on one race day, those of other events and other people are all, minus those of the event, minus
-- those of the person, plus those of both, which were subtracted twice.
WITH {WANTED},
bundles AS (
    SELECT b.event_id AS bundle_id, b.race_id, coalesce(b.race_event_days_id, -b.event_id) AS edition,
        b.start_time::date AS race_day, w.event_id
    FROM wanted w JOIN runsignup_events b ON b.race_id = w.race_id AND b.is_bundle AND w.event_id = ANY (b.sub_event_ids)
),
-- A bundle that has no list any more still shows who is in its later events because of it.
scope AS (
    SELECT event_id, race_id, edition, race_day, age_day, true AS is_listed FROM wanted
    UNION
    SELECT bundle_id, race_id, edition, race_day, NULL, false FROM bundles
    WHERE bundle_id NOT IN (SELECT event_id FROM wanted)
),
held AS (
    SELECT s.*, p.registration_id, p.user_id, p.age AS sent_age, p.dob, p.gender,
        nullif(btrim(p.bib_num, E' \t\r\n'), '') AS own_bib, rsu_bib(NULL, p.team_info) AS team_bib, nullif(btrim(p.local_bib, E' \t\r\n'), '') AS local_bib,
        't' || coalesce(p.team_info ->> 'team_id', lower(p.team_info ->> 'team_name'), '') AS team_key,
        nullif(btrim(p.first_name, E' \t\r\n'), '') AS first_name, nullif(btrim(p.last_name, E' \t\r\n'), '') AS last_name, lower(p.email) AS email,
        nullif(btrim(p.address ->> 'city', E' \t\r\n'), '') AS city, nullif(btrim(p.address ->> 'state', E' \t\r\n'), '') AS state,
        nullif(btrim(p.team_info ->> 'team_name', E' \t\r\n'), '') AS team
    FROM scope s JOIN runsignup_participants p ON p.timing_partner_id = :partner AND p.event_id = s.event_id
        AND p.removed_at IS NULL
),
named AS (
    SELECT h.*, coalesce(own_bib, team_bib) AS sent_bib,
        -- For a team's bib: everyone who shares it belongs to the team.
        CASE WHEN coalesce(own_bib, team_bib) = team_bib THEN team_key END AS team_of_bib,
        lower(concat_ws(' ', first_name, last_name)) || '|' || coalesce(dob::text, nullif(email, '')) AS who
    FROM held h
),
persons AS MATERIALIZED (
    SELECT n.*, coalesce(
        'u' || coalesce(user_id, CASE WHEN who NOT LIKE '|%' THEN min(user_id) OVER (PARTITION BY race_id, who COLLATE "C") END),
        'n' || CASE WHEN who NOT LIKE '|%' THEN who END, 'r' || registration_id) COLLATE "C" AS person
    FROM named n
),
-- The entries of an event with the bundles that they come from, found by a window and not by a join, which was planned as a
-- nested loop.
with_bundles AS (
    SELECT {PERSON}, false AS is_bundle, NULL AS bundle_bib, NULL AS bundle_team FROM persons
    UNION ALL
    SELECT {PERSON_OF_BUNDLE}, true, coalesce(p.sent_bib, p.local_bib), p.team_of_bib
    FROM bundles b JOIN persons p ON p.event_id = b.bundle_id
),
gathered AS (
    SELECT *, bool_or(is_bundle) OVER w AS has_bundle,
        -- A person with two bundles that have different bibs has no certain bib in their events.
        CASE WHEN min(bundle_bib) OVER w = max(bundle_bib) OVER w THEN min(bundle_bib) OVER w END AS of_bundle,
        min(bundle_team) OVER w AS team_of_bundle
    FROM with_bundles WINDOW w AS (PARTITION BY event_id, person COLLATE "C")
),
given AS (
    SELECT *, coalesce(sent_bib, of_bundle, local_bib) AS bib,
        CASE WHEN own_bib IS NOT NULL THEN 'registration' WHEN team_bib IS NOT NULL THEN 'team'
            WHEN of_bundle IS NOT NULL THEN 'bundle' WHEN local_bib IS NOT NULL THEN 'local' END AS bib_source,
        CASE WHEN sent_bib IS NOT NULL THEN team_of_bib WHEN of_bundle IS NOT NULL THEN team_of_bundle END AS holding_team,
        CASE WHEN NOT has_bundle THEN event_id END AS own_event
    FROM gathered WHERE NOT is_bundle
),
placed AS MATERIALIZED (
    SELECT *, CASE WHEN bib ~ '^[0-9]{1,18}$' THEN bib::bigint END AS bib_number,
        coalesce(holding_team, 'r' || registration_id) AS holder, coalesce(holding_team, person) AS person_or_team
    FROM given
),
fences AS MATERIALIZED (
    SELECT event_id, quartiles[1] - 1.5 * (quartiles[2] - quartiles[1]) AS low,
        quartiles[2] + 1.5 * (quartiles[2] - quartiles[1]) AS high
    FROM (
        SELECT event_id, percentile_cont(ARRAY[0.25, 0.75]) WITHIN GROUP (ORDER BY bib_number::float) AS quartiles
        FROM (SELECT DISTINCT event_id, bib_number FROM placed WHERE is_listed AND bib_number IS NOT NULL) d
        GROUP BY event_id HAVING count(*) >= 20) q
),
counted AS (
    SELECT p.*,
        count(*) OVER (PARTITION BY p.race_id, race_day, bib COLLATE "C") AS of_day,
        count(*) OVER (PARTITION BY p.race_id, race_day, bib COLLATE "C", p.event_id) AS of_event,
        count(*) OVER (PARTITION BY p.race_id, race_day, bib COLLATE "C", person_or_team COLLATE "C") AS of_person,
        count(*) OVER (PARTITION BY p.race_id, race_day, bib COLLATE "C", p.event_id, person_or_team COLLATE "C") AS of_both,
        min(holder COLLATE "C") OVER (PARTITION BY p.race_id, race_day, bib COLLATE "C", p.event_id)
            < max(holder COLLATE "C") OVER (PARTITION BY p.race_id, race_day, bib COLLATE "C", p.event_id) AS is_shared,
        count(*) OVER (PARTITION BY p.event_id, bib_number / 100) AS of_hundred,
        bib_number < f.low OR bib_number > f.high AS is_beyond,
        min(own_event) OVER (PARTITION BY p.race_id, edition, p.person)
            < max(own_event) OVER (PARTITION BY p.race_id, edition, p.person) AS in_two
    FROM placed p
    LEFT JOIN fences f ON f.event_id = p.event_id
),
aged AS (
    SELECT *, (to_char(age_day, 'YYYYMMDD')::integer - to_char(dob, 'YYYYMMDD')::integer) / 10000 AS years
    FROM counted WHERE is_listed
),
entries AS MATERIALIZED (
    SELECT registration_id, event_id, race_id, bib, bib_number, bib_source, first_name, last_name,
        coalesce(sent_age, CASE WHEN dob <= age_day THEN years END) AS age, gender, city, state, team,
        array_remove(ARRAY[
            CASE WHEN bib IS NULL THEN 'no_bib' END,
            CASE WHEN bib IS NOT NULL AND is_shared THEN 'duplicate_bib' END,
            CASE WHEN bib IS NOT NULL AND of_day - of_event - of_person + of_both > 0 THEN 'bib_in_other_event' END,
            CASE WHEN is_beyond AND of_hundred < 5 THEN 'out_of_range' END,
            CASE WHEN in_two THEN 'in_two_events' END], NULL) AS problems
    FROM aged
),
gone AS (
    DELETE FROM start_list_entries
    WHERE timing_partner_id = :partner AND registration_id NOT IN (SELECT registration_id FROM entries)
    RETURNING event_id
),
written AS (
    INSERT INTO start_list_entries (timing_partner_id, registration_id, {ENTRY})
    SELECT :partner, e.registration_id, {NEW_ENTRY}
    -- LATERAL uses the whole key of the index. A join was planned over all the partner's rows for each entrant.
    FROM entries e LEFT JOIN LATERAL (SELECT * FROM start_list_entries h
        WHERE h.timing_partner_id = :partner AND h.registration_id = e.registration_id LIMIT 1) s ON true
    WHERE s.registration_id IS NULL OR ({NEW_ENTRY}) IS DISTINCT FROM ({STORED_ENTRY})
    ON CONFLICT (timing_partner_id, registration_id) DO UPDATE
    SET {SET_ENTRY}, changed_at = now()
    RETURNING event_id, xmax = 0 AS is_new
),
summed AS (
    SELECT event_id, count(*) AS entrants, count(bib) AS with_bib,
        count(*) FILTER (WHERE 'duplicate_bib' = ANY (problems)) AS duplicate_bibs,
        count(*) FILTER (WHERE 'bib_in_other_event' = ANY (problems)) AS bibs_in_other_events,
        count(*) FILTER (WHERE 'out_of_range' = ANY (problems)) AS out_of_range,
        count(*) FILTER (WHERE 'in_two_events' = ANY (problems)) AS in_two_events,
        min(bib_number) AS lowest_bib, max(bib_number) AS highest_bib
    FROM entries GROUP BY event_id
),
figures AS (
    SELECT w.event_id, w.race_id, w.race_day, w.age_day, w.changed_at AS registrations_changed_at,
        coalesce(s.entrants, 0) AS entrants, coalesce(s.with_bib, 0) AS with_bib,
        coalesce(s.entrants - s.with_bib, 0) AS without_bib, coalesce(s.duplicate_bibs, 0) AS duplicate_bibs,
        coalesce(s.bibs_in_other_events, 0) AS bibs_in_other_events, coalesce(s.out_of_range, 0) AS out_of_range,
        coalesce(s.in_two_events, 0) AS in_two_events, s.lowest_bib, s.highest_bib
    FROM wanted w LEFT JOIN summed s USING (event_id)
),
lists_gone AS (
    DELETE FROM start_lists
    WHERE timing_partner_id = :partner AND event_id NOT IN (SELECT event_id FROM wanted)
    RETURNING 1
),
lists_written AS (
    INSERT INTO start_lists (timing_partner_id, event_id, {FIGURES})
    SELECT :partner, f.event_id, {NEW_FIGURES}
    FROM figures f LEFT JOIN start_lists s ON s.timing_partner_id = :partner AND s.event_id = f.event_id
    WHERE s.event_id IS NULL OR ({NEW_FIGURES}) IS DISTINCT FROM ({STORED_FIGURES})
        OR f.event_id IN (SELECT event_id FROM written UNION SELECT event_id FROM gone)
    ON CONFLICT (timing_partner_id, event_id) DO UPDATE
    SET {SET_FIGURES}, built_at = now()
    RETURNING 1
)
SELECT (SELECT count(*) FROM entries), count(*) FILTER (WHERE is_new), count(*) FILTER (WHERE NOT is_new),
    (SELECT count(*) FROM gone), (SELECT count(*) FROM lists_written) + (SELECT count(*) FROM lists_gone)
FROM written;
