-- Writes of other programs to the hub's data, the program before this one for one, started again by mistake. A statement of this
-- program costs the comparison of its session's name, which begins with rsu. What others may write is left out: local_bib, and
-- columns that this program does not know. A migration that changes a listed column's type has to make the trigger again.

CREATE TABLE foreign_writes (
    foreign_write_id bigserial PRIMARY KEY,
    seen_on date NOT NULL,
    table_name text NOT NULL,
    operation text NOT NULL,
    login text NOT NULL,
    program text NOT NULL,
    address text NOT NULL,
    transactions bigint NOT NULL DEFAULT 1,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    UNIQUE (seen_on, table_name, operation, login, program, address)
);
COMMENT ON TABLE foreign_writes IS 'One row: another program''s writes of one kind to a table of the hub, on one day.';
COMMENT ON COLUMN foreign_writes.foreign_write_id IS 'Number of the row.';
COMMENT ON COLUMN foreign_writes.seen_on IS 'The day, UTC.';
COMMENT ON COLUMN foreign_writes.table_name IS 'The table that was written to.';
COMMENT ON COLUMN foreign_writes.operation IS 'INSERT, UPDATE, DELETE or TRUNCATE.';
COMMENT ON COLUMN foreign_writes.login IS 'The role that logged in.';
COMMENT ON COLUMN foreign_writes.program IS 'What the session calls itself (application_name); empty where it does not say.';
COMMENT ON COLUMN foreign_writes.address IS 'Where it connected from; local for a socket.';
COMMENT ON COLUMN foreign_writes.transactions IS 'Transactions that did so on that day.';
COMMENT ON COLUMN foreign_writes.first_at IS 'The first of them.';
COMMENT ON COLUMN foreign_writes.last_at IS 'The last of them. An upcoming event that was last read in full before is read in full again.';

CREATE FUNCTION rsu_note_foreign_write() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    mark text := TG_TABLE_NAME || ' ' || TG_OP || ';';
    noted text := coalesce(current_setting('rsu.foreign_writes', true), '');
BEGIN
    -- Once in a transaction, since a program that writes row by row would otherwise write as many versions of one row here.
    IF strpos(noted, mark) = 0 THEN
        PERFORM set_config('rsu.foreign_writes', noted || mark, true);
        EXECUTE format('INSERT INTO %I.foreign_writes AS w (seen_on, table_name, operation, login, program, address, first_at,'
            ' last_at) VALUES ((clock_timestamp() AT TIME ZONE ''UTC'')::date, $1, $2, $3, $4, $5, clock_timestamp(),'
            ' clock_timestamp()) ON CONFLICT (seen_on, table_name, operation, login, program, address) DO UPDATE'
            ' SET last_at = excluded.last_at, transactions = w.transactions + 1', TG_TABLE_SCHEMA)
        USING TG_TABLE_NAME, TG_OP, session_user::text, current_setting('application_name'),
            coalesce(host(inet_client_addr()), 'local');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER note_foreign_write AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE OF race_id, event_id, timing_partner_id,
    registration_id, user_id, first_name, middle_name, last_name, email, dob, gender, phone, profile_image_url, bib_num, chip_num,
    age, registration_date, registered_at, last_modified, last_modified_epoch, address, team_info, payment_info, additional_data,
    payload, first_bib, removed_at, removed_reason, removed_epoch, new_registration_id, seal
    ON runsignup_participants FOR EACH STATEMENT WHEN (current_setting('application_name') NOT LIKE 'rsu %')
    EXECUTE FUNCTION rsu_note_foreign_write();
CREATE TRIGGER note_foreign_write AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE OF event_id, race_id, timing_partner_id,
    race_event_days_id, name, details, giveaway, start_time, starts_at, end_time, ends_at, registration_opens, age_calc_base_date,
    event_type, distance, distance_text, volunteer, require_dob, require_phone, is_bundle, sub_event_ids, gone_at, payload
    ON runsignup_events FOR EACH STATEMENT WHEN (current_setting('application_name') NOT LIKE 'rsu %')
    EXECUTE FUNCTION rsu_note_foreign_write();
CREATE TRIGGER note_foreign_write AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE OF race_id, timing_partner_id, name, description,
    last_date, last_end_date, next_date, next_end_date, created, last_modified, is_draft_race, is_private_race,
    is_registration_open, real_time_notifications_enabled, url, external_race_url, external_results_url, logo_url, fb_page_id,
    fb_event_id, timezone, address, payload, detail_as_of
    ON runsignup_races FOR EACH STATEMENT WHEN (current_setting('application_name') NOT LIKE 'rsu %')
    EXECUTE FUNCTION rsu_note_foreign_write();
