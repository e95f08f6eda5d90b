-- Alerts: what is wrong, who was told, and that it is over.

CREATE TABLE alerts (
    alert_id bigserial PRIMARY KEY,
    kind text NOT NULL,
    cause text NOT NULL,
    partner text,
    sentence text NOT NULL,
    run_id text,
    first_seen_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    looks_missed integer NOT NULL DEFAULT 0,
    told_at timestamptz,
    failed_sends integer NOT NULL DEFAULT 0,
    cleared_at timestamptz,
    cleared_told_at timestamptz
);
CREATE UNIQUE INDEX alerts_open ON alerts (kind, cause) WHERE cleared_at IS NULL;
CREATE INDEX alerts_cleared_at ON alerts (cleared_at);
COMMENT ON TABLE alerts IS 'One row: a cause that somebody must act on, from when it was first seen until it was gone. Holds no personal data.';
COMMENT ON COLUMN alerts.alert_id IS 'Number of the alert.';
COMMENT ON COLUMN alerts.kind IS 'Kind of trouble, as docs/alerts.md has it.';
COMMENT ON COLUMN alerts.cause IS 'What is wrong, the same from look to look: numbers of the partner, race or event, or a job.';
COMMENT ON COLUMN alerts.partner IS 'Partition key of the partner; NULL when it is nobody''s in particular.';
COMMENT ON COLUMN alerts.sentence IS 'What people are told, as of the last look that saw it.';
COMMENT ON COLUMN alerts.run_id IS 'The run it comes from; NULL when it comes from none.';
COMMENT ON COLUMN alerts.first_seen_at IS 'When a look first saw it.';
COMMENT ON COLUMN alerts.last_seen_at IS 'When a look last saw it.';
COMMENT ON COLUMN alerts.looks_missed IS 'Looks in a row that did not see it; at the second it is cleared.';
COMMENT ON COLUMN alerts.told_at IS 'When people were last told; NULL: not told.';
COMMENT ON COLUMN alerts.failed_sends IS 'Messages about it that no notifier took.';
COMMENT ON COLUMN alerts.cleared_at IS 'When it was gone; NULL while it is open.';
COMMENT ON COLUMN alerts.cleared_told_at IS 'When people were told that it is over; NULL: not told.';
