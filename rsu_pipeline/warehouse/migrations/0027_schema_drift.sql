-- Fields of registrations that this program does not know, or that arrive in another form than it knows.

CREATE TABLE schema_drift (
    timing_partner_id integer NOT NULL REFERENCES timing_partners,
    race_id bigint NOT NULL,
    field text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('unknown', 'form', 'type')),
    occurrences bigint NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (timing_partner_id, race_id, field, kind)
);
COMMENT ON TABLE schema_drift IS 'One row: a field of a race''s registrations that differs from what this program knows of RunSignup.';
COMMENT ON COLUMN schema_drift.timing_partner_id IS 'The partner whose credential read it.';
COMMENT ON COLUMN schema_drift.race_id IS 'The race.';
COMMENT ON COLUMN schema_drift.field IS 'Name of the field, never its value; user.… for one of the person.';
COMMENT ON COLUMN schema_drift.kind IS 'unknown: a new field. form: an optional field whose form is not known. type: a known field that is a list or an object instead of a value, or the other way round.';
COMMENT ON COLUMN schema_drift.occurrences IS 'Registrations that were read with it, each as often as it was read.';
COMMENT ON COLUMN schema_drift.first_seen_at IS 'When it was first read.';
COMMENT ON COLUMN schema_drift.last_seen_at IS 'When it was last read.';

CREATE TABLE accepted_schema_drift (
    field text PRIMARY KEY,
    accepted_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE accepted_schema_drift IS 'One row: an unknown field that an operator accepted, so that no check reports it.';
COMMENT ON COLUMN accepted_schema_drift.field IS 'Name of the field.';
COMMENT ON COLUMN accepted_schema_drift.accepted_at IS 'When it was accepted.';
