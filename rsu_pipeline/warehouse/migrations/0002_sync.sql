-- What a sync keeps of itself: plan, cursors, positions, quarantine, bib log, history, the call ledger.

CREATE TABLE future_events (
    timing_partner_id integer NOT NULL REFERENCES timing_partners,
    event_id bigint NOT NULL REFERENCES runsignup_events,
    race_id bigint NOT NULL,
    tier text NOT NULL,
    starts_at timestamptz,
    over_at timestamptz,
    next_read text NOT NULL,
    reason text NOT NULL,
    planned_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (timing_partner_id, event_id)
);
COMMENT ON TABLE future_events IS 'One row: an event that still needs syncing, and what its next read will be. Rewritten at each sync.';
COMMENT ON COLUMN future_events.timing_partner_id IS 'The partner.';
COMMENT ON COLUMN future_events.event_id IS 'The event.';
COMMENT ON COLUMN future_events.race_id IS 'Its race.';
COMMENT ON COLUMN future_events.tier IS 'How near it is: undated, later (over 24 h), day (24 to 4 h), window (4 h before the start until it is over).';
COMMENT ON COLUMN future_events.starts_at IS 'Start, as an instant; NULL when RunSignup has none.';
COMMENT ON COLUMN future_events.over_at IS 'From when on it is synced no more; NULL for an undated event.';
COMMENT ON COLUMN future_events.next_read IS 'full or incremental.';
COMMENT ON COLUMN future_events.reason IS 'Why the next read is that.';
COMMENT ON COLUMN future_events.planned_at IS 'When this was decided.';

CREATE TABLE event_cursors (
    timing_partner_id integer NOT NULL REFERENCES timing_partners,
    event_id bigint NOT NULL REFERENCES runsignup_events,
    race_id bigint NOT NULL,
    modified_after bigint NOT NULL,
    removed_after bigint NOT NULL,
    first_loaded_at timestamptz NOT NULL,
    last_full_at timestamptz NOT NULL,
    last_read_at timestamptz NOT NULL,
    needs_full text,
    registrations integer NOT NULL DEFAULT 0,
    read_rows integer,
    read_hash numeric,
    stored_rows integer,
    stored_hash numeric,
    compared_at timestamptz,
    proved_equal_at timestamptz,
    PRIMARY KEY (timing_partner_id, event_id)
);
CREATE INDEX event_cursors_race ON event_cursors (timing_partner_id, race_id);
COMMENT ON TABLE event_cursors IS 'One row: how far a partner''s copy of an event reaches. Made when its first full read is complete.';
COMMENT ON COLUMN event_cursors.timing_partner_id IS 'The partner.';
COMMENT ON COLUMN event_cursors.event_id IS 'The event.';
COMMENT ON COLUMN event_cursors.race_id IS 'Its race.';
COMMENT ON COLUMN event_cursors.modified_after IS 'Cursor of the next incremental read, Unix seconds by RunSignup''s clock: first page of the last complete pass, less an overlap.';
COMMENT ON COLUMN event_cursors.removed_after IS 'The same for removed registrations, which are asked for less often.';
COMMENT ON COLUMN event_cursors.first_loaded_at IS 'When the first full read was complete; bibs set from here on are logged.';
COMMENT ON COLUMN event_cursors.last_full_at IS 'RunSignup''s clock at the first page of the last complete full read.';
COMMENT ON COLUMN event_cursors.last_read_at IS 'RunSignup''s clock at the first page of the last complete pass, full or incremental.';
COMMENT ON COLUMN event_cursors.needs_full IS 'Why the next read must be full; NULL when it need not.';
COMMENT ON COLUMN event_cursors.registrations IS 'Active registrations after the last complete full read.';
COMMENT ON COLUMN event_cursors.read_rows IS 'Active registrations that the last complete full read was sent, those held back included.';
COMMENT ON COLUMN event_cursors.read_hash IS 'Sum of the row hashes of what it was sent; the order does not matter.';
COMMENT ON COLUMN event_cursors.stored_rows IS 'Active registrations stored when it was complete.';
COMMENT ON COLUMN event_cursors.stored_hash IS 'Sum of the row hashes of what was stored then.';
COMMENT ON COLUMN event_cursors.compared_at IS 'When the two were last compared.';
COMMENT ON COLUMN event_cursors.proved_equal_at IS 'When the two were last found equal.';

CREATE TABLE read_passes (
    timing_partner_id integer NOT NULL REFERENCES timing_partners,
    race_id bigint NOT NULL,
    mode text NOT NULL CHECK (mode IN ('full', 'incremental')),
    feed text NOT NULL DEFAULT 'participants' CHECK (feed IN ('participants', 'removed')),
    event_ids bigint[] NOT NULL,
    modified_after bigint,
    first_page_at bigint,
    after_registration_id bigint NOT NULL DEFAULT 0,
    pages integer NOT NULL DEFAULT 0,
    started_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (timing_partner_id, race_id, mode)
);
COMMENT ON TABLE read_passes IS 'One row: a pass over a race''s registrations that is under way, or was when its process ended; the next sync goes on from it.';
COMMENT ON COLUMN read_passes.timing_partner_id IS 'The partner.';
COMMENT ON COLUMN read_passes.race_id IS 'The race.';
COMMENT ON COLUMN read_passes.mode IS 'full or incremental.';
COMMENT ON COLUMN read_passes.feed IS 'Which of the two feeds is being read.';
COMMENT ON COLUMN read_passes.event_ids IS 'The events the pass reads, in one list.';
COMMENT ON COLUMN read_passes.modified_after IS 'Fixed cursor of an incremental pass, Unix seconds.';
COMMENT ON COLUMN read_passes.first_page_at IS 'RunSignup''s clock at the first page, Unix seconds; the next cursor comes from it.';
COMMENT ON COLUMN read_passes.after_registration_id IS 'Everything up to this registration id is stored.';
COMMENT ON COLUMN read_passes.pages IS 'Pages stored so far.';
COMMENT ON COLUMN read_passes.started_at IS 'When the pass began.';

CREATE TABLE pass_registrations (
    timing_partner_id integer NOT NULL,
    race_id bigint NOT NULL,
    mode text NOT NULL,
    registration_id bigint NOT NULL,
    event_id bigint NOT NULL,
    missing boolean NOT NULL,
    PRIMARY KEY (timing_partner_id, race_id, mode, registration_id),
    FOREIGN KEY (timing_partner_id, race_id, mode) REFERENCES read_passes ON DELETE CASCADE
);
COMMENT ON TABLE pass_registrations IS 'One row: what a pass under way found out about a registration; gone with its pass.';
COMMENT ON COLUMN pass_registrations.timing_partner_id IS 'The partner.';
COMMENT ON COLUMN pass_registrations.race_id IS 'The race.';
COMMENT ON COLUMN pass_registrations.mode IS 'Mode of the pass.';
COMMENT ON COLUMN pass_registrations.registration_id IS 'The registration.';
COMMENT ON COLUMN pass_registrations.event_id IS 'Its event.';
COMMENT ON COLUMN pass_registrations.missing IS 'true: held here, absent from a full pass; false: seen active by an incremental pass.';

CREATE TABLE pass_counts (
    timing_partner_id integer NOT NULL,
    race_id bigint NOT NULL,
    mode text NOT NULL,
    event_id bigint NOT NULL,
    rows integer NOT NULL,
    hash numeric NOT NULL,
    PRIMARY KEY (timing_partner_id, race_id, mode, event_id),
    FOREIGN KEY (timing_partner_id, race_id, mode) REFERENCES read_passes ON DELETE CASCADE
);
COMMENT ON TABLE pass_counts IS 'One row: what a full pass under way was sent of an event so far; gone with its pass.';
COMMENT ON COLUMN pass_counts.timing_partner_id IS 'The partner.';
COMMENT ON COLUMN pass_counts.race_id IS 'The race.';
COMMENT ON COLUMN pass_counts.mode IS 'Mode of the pass.';
COMMENT ON COLUMN pass_counts.event_id IS 'The event.';
COMMENT ON COLUMN pass_counts.rows IS 'Active registrations sent.';
COMMENT ON COLUMN pass_counts.hash IS 'Sum of their row hashes; a row held back counts as none.';

CREATE TABLE quarantined_rows (
    quarantined_row_id bigserial PRIMARY KEY,
    timing_partner_id integer NOT NULL REFERENCES timing_partners,
    race_id bigint NOT NULL,
    registration_id bigint,
    is_stored boolean NOT NULL,
    reason text NOT NULL,
    row_digest text NOT NULL,
    row_text text,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    resolved_at timestamptz,
    UNIQUE (timing_partner_id, race_id, row_digest)
);
CREATE INDEX quarantined_rows_open ON quarantined_rows (timing_partner_id, registration_id) WHERE resolved_at IS NULL;
COMMENT ON TABLE quarantined_rows IS 'One row: a registration that could not be taken over as sent.';
COMMENT ON COLUMN quarantined_rows.quarantined_row_id IS 'Number of the row.';
COMMENT ON COLUMN quarantined_rows.timing_partner_id IS 'The partner.';
COMMENT ON COLUMN quarantined_rows.race_id IS 'The race.';
COMMENT ON COLUMN quarantined_rows.registration_id IS 'The registration, when that much could be read.';
COMMENT ON COLUMN quarantined_rows.is_stored IS 'true: stored with the members named in reason left NULL; false: held back whole.';
COMMENT ON COLUMN quarantined_rows.reason IS 'What did not fit, member by member.';
COMMENT ON COLUMN quarantined_rows.row_digest IS 'SHA-256 of the row as sent, so that a re-read adds nothing.';
COMMENT ON COLUMN quarantined_rows.row_text IS 'The row as sent; bytes that are no UTF-8 or NUL are replaced.';
COMMENT ON COLUMN quarantined_rows.first_seen_at IS 'When it was first met.';
COMMENT ON COLUMN quarantined_rows.last_seen_at IS 'When it was last met.';
COMMENT ON COLUMN quarantined_rows.resolved_at IS 'When the registration came through whole; NULL while it has not.';

CREATE TABLE runsignup_bib_changes (
    bib_change_id bigserial PRIMARY KEY,
    timing_partner_id integer NOT NULL REFERENCES timing_partners,
    race_id bigint NOT NULL,
    event_id bigint NOT NULL,
    registration_id bigint NOT NULL,
    kind text NOT NULL CHECK (kind IN ('assigned', 'changed', 'cleared')),
    old_bib text,
    new_bib text,
    modified_epoch bigint,
    last_seen_old timestamptz,
    first_seen_new timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    run_id text,
    CHECK (old_bib IS DISTINCT FROM new_bib)
);
CREATE INDEX runsignup_bib_changes_registration ON runsignup_bib_changes (timing_partner_id, registration_id, bib_change_id);
CREATE INDEX runsignup_bib_changes_recorded_at ON runsignup_bib_changes (recorded_at);
COMMENT ON TABLE runsignup_bib_changes IS 'One row: a bib set, changed or cleared at RunSignup after its event''s first load. Append-only.';
COMMENT ON COLUMN runsignup_bib_changes.bib_change_id IS 'Number of the change; rises within a registration.';
COMMENT ON COLUMN runsignup_bib_changes.timing_partner_id IS 'The partner.';
COMMENT ON COLUMN runsignup_bib_changes.race_id IS 'The race.';
COMMENT ON COLUMN runsignup_bib_changes.event_id IS 'The event.';
COMMENT ON COLUMN runsignup_bib_changes.registration_id IS 'The registration.';
COMMENT ON COLUMN runsignup_bib_changes.kind IS 'assigned (none before), changed, cleared (none after).';
COMMENT ON COLUMN runsignup_bib_changes.old_bib IS 'Bib before; NULL for none.';
COMMENT ON COLUMN runsignup_bib_changes.new_bib IS 'Bib after; NULL for none.';
COMMENT ON COLUMN runsignup_bib_changes.modified_epoch IS 'When RunSignup last changed the registration, Unix seconds: the change is no later.';
COMMENT ON COLUMN runsignup_bib_changes.last_seen_old IS 'RunSignup''s clock when the old bib was last seen.';
COMMENT ON COLUMN runsignup_bib_changes.first_seen_new IS 'RunSignup''s clock at the answer that first had the new bib.';
COMMENT ON COLUMN runsignup_bib_changes.recorded_at IS 'When the change was written here.';
COMMENT ON COLUMN runsignup_bib_changes.run_id IS 'The run that saw it.';

CREATE FUNCTION rsu_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON runsignup_bib_changes
    FOR EACH STATEMENT EXECUTE FUNCTION rsu_refuse_change();

CREATE TABLE sync_history (
    sync_history_id serial PRIMARY KEY,
    timing_partner_id integer REFERENCES timing_partners,
    provider_id integer REFERENCES providers,
    event_id varchar(100),
    operation_type varchar(50),
    sync_direction varchar(50),
    sync_time timestamp DEFAULT now(),
    status varchar(20),
    num_of_synced_records integer DEFAULT 0,
    entries_success integer DEFAULT 0,
    entries_failed integer DEFAULT 0,
    error_details jsonb,
    data_snapshot jsonb,
    duration_seconds integer,
    callback_url varchar(255),
    reason text,
    race_id bigint,
    event_ids bigint[],
    run_id text,
    finished_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX sync_history_partner ON sync_history (timing_partner_id, finished_at DESC);
CREATE INDEX sync_history_race ON sync_history (timing_partner_id, race_id, finished_at DESC);
CREATE INDEX sync_history_sync_time ON sync_history (sync_time DESC);
CREATE INDEX sync_history_run ON sync_history (run_id);
COMMENT ON TABLE sync_history IS 'One row: one race read, or tried, by one run.';
COMMENT ON COLUMN sync_history.sync_history_id IS 'Number of the row.';
COMMENT ON COLUMN sync_history.timing_partner_id IS 'The partner.';
COMMENT ON COLUMN sync_history.provider_id IS 'RunSignup.';
COMMENT ON COLUMN sync_history.event_id IS 'The event when the read was of one only; see event_ids.';
COMMENT ON COLUMN sync_history.operation_type IS 'full or incremental; events for the listing.';
COMMENT ON COLUMN sync_history.sync_direction IS 'pull.';
COMMENT ON COLUMN sync_history.sync_time IS 'When the read began, in the database''s zone.';
COMMENT ON COLUMN sync_history.status IS 'completed; partial (some rows held back); failed.';
COMMENT ON COLUMN sync_history.num_of_synced_records IS 'Rows read.';
COMMENT ON COLUMN sync_history.entries_success IS 'Rows stored or found unchanged.';
COMMENT ON COLUMN sync_history.entries_failed IS 'Rows held back.';
COMMENT ON COLUMN sync_history.error_details IS 'cause, remedy and message of a failure.';
COMMENT ON COLUMN sync_history.data_snapshot IS 'Counts: inserted, updated, unchanged, removed, quarantined, calls, pages.';
COMMENT ON COLUMN sync_history.duration_seconds IS 'Seconds, rounded.';
COMMENT ON COLUMN sync_history.callback_url IS 'Of other programs; not used here.';
COMMENT ON COLUMN sync_history.reason IS 'Why the read was of that kind, or what failed.';
COMMENT ON COLUMN sync_history.race_id IS 'The race; NULL for the listing.';
COMMENT ON COLUMN sync_history.event_ids IS 'The events read.';
COMMENT ON COLUMN sync_history.run_id IS 'The run.';
COMMENT ON COLUMN sync_history.finished_at IS 'When it ended, as an instant.';

CREATE TABLE api_calls (
    api_call_id bigserial PRIMARY KEY,
    credential_id integer NOT NULL,
    lane text NOT NULL,
    endpoint text NOT NULL,
    race_id bigint,
    granted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    holder_pid integer NOT NULL DEFAULT pg_backend_pid(),
    settled_at timestamptz,
    status integer,
    error text,
    bytes bigint,
    rows integer
);
CREATE INDEX api_calls_of_credential ON api_calls (credential_id, granted_at);
CREATE INDEX api_calls_in_flight ON api_calls (granted_at) WHERE settled_at IS NULL;
COMMENT ON TABLE api_calls IS 'One row: a call to RunSignup that was granted, retries included. The call budget is counted here.';
COMMENT ON COLUMN api_calls.api_call_id IS 'Number of the grant.';
COMMENT ON COLUMN api_calls.credential_id IS 'The credential it counts against.';
COMMENT ON COLUMN api_calls.lane IS 'race_day, new_partner, routine or backfill.';
COMMENT ON COLUMN api_calls.endpoint IS 'races, race, participants, removed-participants.';
COMMENT ON COLUMN api_calls.race_id IS 'The race asked about; NULL for the listing.';
COMMENT ON COLUMN api_calls.granted_at IS 'When it was granted, by the database''s clock.';
COMMENT ON COLUMN api_calls.holder_pid IS 'Backend of the session that took it; gone when that process is.';
COMMENT ON COLUMN api_calls.settled_at IS 'When its outcome was reported; NULL while in flight, or for ever after a kill.';
COMMENT ON COLUMN api_calls.status IS 'HTTP status.';
COMMENT ON COLUMN api_calls.error IS 'Cause of failure; NULL when it succeeded.';
COMMENT ON COLUMN api_calls.bytes IS 'Size of the answer''s body, decompressed.';
COMMENT ON COLUMN api_calls.rows IS 'Rows in the answer.';

CREATE VIEW unified_participants AS
SELECT 'runsignup'::text AS source_provider, p.timing_partner_id, p.event_id::varchar AS event_id, p.first_name,
    p.last_name, p.email, p.gender, coalesce(p.bib_num, p.local_bib) AS bib_number, p.address ->> 'city' AS city, p.address ->> 'state' AS state,
    p.age, p.registration_date, p.fetched_date
FROM runsignup_participants p
WHERE p.removed_at IS NULL;
COMMENT ON VIEW unified_participants IS 'Active registrations, in the columns that race displays read.';

CREATE VIEW unified_events AS
SELECT 'runsignup'::text AS source_provider, e.timing_partner_id, e.event_id::varchar AS event_id, e.name AS event_name,
    e.start_time AS event_date, e.fetched_date
FROM runsignup_events e
WHERE e.gone_at IS NULL;
COMMENT ON VIEW unified_events IS 'Events of all races, in the columns that race displays read.';

CREATE TABLE bib_changes_handled (
    bib_change_id bigint PRIMARY KEY,
    handled_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE bib_changes_handled IS 'One row: a bib change that the sensor bib_changes has told to the partner''s partition.';
COMMENT ON COLUMN bib_changes_handled.bib_change_id IS 'The change.';
COMMENT ON COLUMN bib_changes_handled.handled_at IS 'When it was told.';
