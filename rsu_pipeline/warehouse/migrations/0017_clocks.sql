-- Clocks are compared, and a checkpoint goes by the earliest that they allow.

CREATE TABLE hub_clocks (
    hub text PRIMARY KEY,
    observed_at timestamptz NOT NULL,
    runsignup_seconds double precision,
    database_seconds double precision NOT NULL
);
COMMENT ON TABLE hub_clocks IS 'One row: the clock of a machine on which the hub runs, as last compared with RunSignup''s and the database''s.';
COMMENT ON COLUMN hub_clocks.hub IS 'The machine''s name.';
COMMENT ON COLUMN hub_clocks.observed_at IS 'When the clocks were compared, by the database''s.';
COMMENT ON COLUMN hub_clocks.runsignup_seconds IS 'Seconds that RunSignup''s clock was ahead of the hub''s; negative for behind, NULL where its answers had no usable Date.';
COMMENT ON COLUMN hub_clocks.database_seconds IS 'Seconds that the database''s clock was ahead of the hub''s; negative for behind.';

ALTER TABLE read_passes ADD COLUMN changes_from bigint;
COMMENT ON COLUMN read_passes.changes_from IS 'Unix seconds from which the next incremental read asks for changes, before the overlap is taken off.';
COMMENT ON COLUMN read_passes.first_page_at IS 'When the first page was read, Unix seconds: the earliest that the clocks allow.';
COMMENT ON COLUMN event_cursors.modified_after IS 'Cursor of the next incremental read, Unix seconds: first page of the last complete pass by the earliest of the clocks that agree, less an overlap.';
COMMENT ON COLUMN event_cursors.last_full_at IS 'When the first page of the last complete full read was read, the earliest that the clocks allow.';
COMMENT ON COLUMN event_cursors.last_read_at IS 'When the first page of the last complete pass was read, full or incremental, the earliest that the clocks allow.';
