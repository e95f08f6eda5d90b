-- Past editions: what was asked for, and how far it came.

ALTER TABLE read_passes DROP CONSTRAINT read_passes_mode_check;
ALTER TABLE read_passes ADD CONSTRAINT read_passes_mode_check CHECK (mode IN ('full', 'incremental', 'history'));
COMMENT ON COLUMN read_passes.mode IS 'full or incremental of events ahead; history: all of past ones.';

CREATE TABLE history_requests (
    timing_partner_id integer PRIMARY KEY REFERENCES timing_partners,
    since_year integer,
    requested_at timestamptz NOT NULL DEFAULT now(),
    anew_from timestamptz,
    listed_at timestamptz,
    not_before timestamptz NOT NULL DEFAULT now(),
    slices integer NOT NULL DEFAULT 0,
    finished_at timestamptz
);
COMMENT ON TABLE history_requests IS 'One row: a partner whose past editions were asked for.';
COMMENT ON COLUMN history_requests.timing_partner_id IS 'The partner.';
COMMENT ON COLUMN history_requests.since_year IS 'Events that started in an earlier year (their own calendar) are left out; NULL: all.';
COMMENT ON COLUMN history_requests.requested_at IS 'When it was asked for.';
COMMENT ON COLUMN history_requests.anew_from IS 'What was read before this moment is read again; NULL: what was read stays.';
COMMENT ON COLUMN history_requests.listed_at IS 'When the partner''s races were listed for it; NULL before.';
COMMENT ON COLUMN history_requests.not_before IS 'When the next slice may begin: when calls are free again, or a race that failed may be retried.';
COMMENT ON COLUMN history_requests.slices IS 'Slices begun since it was asked for.';
COMMENT ON COLUMN history_requests.finished_at IS 'When nothing was left to read; NULL until then.';

CREATE TABLE history_races (
    timing_partner_id integer NOT NULL REFERENCES timing_partners,
    race_id bigint NOT NULL REFERENCES runsignup_races,
    detail_read_at timestamptz,
    failures integer NOT NULL DEFAULT 0,
    error text,
    retry_at timestamptz,
    PRIMARY KEY (timing_partner_id, race_id)
);
COMMENT ON TABLE history_races IS 'One row: a race whose past editions were looked up for a partner.';
COMMENT ON COLUMN history_races.timing_partner_id IS 'The partner.';
COMMENT ON COLUMN history_races.race_id IS 'The race.';
COMMENT ON COLUMN history_races.detail_read_at IS 'When its editions were last looked up; NULL when that never worked.';
COMMENT ON COLUMN history_races.failures IS 'Times in a row that it failed.';
COMMENT ON COLUMN history_races.error IS 'How it failed last; NULL when it did not.';
COMMENT ON COLUMN history_races.retry_at IS 'When it is tried again; NULL when it did not fail.';

CREATE TABLE history_events (
    timing_partner_id integer NOT NULL REFERENCES timing_partners,
    event_id bigint NOT NULL REFERENCES runsignup_events,
    state text NOT NULL CHECK (state IN ('loaded', 'empty', 'unavailable')),
    reason text,
    behind boolean NOT NULL DEFAULT false,
    read_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (timing_partner_id, event_id)
);
COMMENT ON TABLE history_events IS 'One row: a past event that was read, or that RunSignup no longer gives out.';
COMMENT ON COLUMN history_events.timing_partner_id IS 'The partner.';
COMMENT ON COLUMN history_events.event_id IS 'The event.';
COMMENT ON COLUMN history_events.state IS 'loaded; empty: RunSignup answered with no registration; unavailable: RunSignup refuses this edition, more than a year old.';
COMMENT ON COLUMN history_events.reason IS 'What RunSignup said of one that is unavailable.';
COMMENT ON COLUMN history_events.behind IS 'true: its read was interrupted, and what changed on the first pages meanwhile is not in yet.';
COMMENT ON COLUMN history_events.read_at IS 'When that was found.';
