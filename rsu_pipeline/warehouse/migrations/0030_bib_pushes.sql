-- Bibs given here are sent to RunSignup, for events that allow it. docs/local-bibs.md.

CREATE TABLE bib_push_events (
    timing_partner_id integer NOT NULL REFERENCES timing_partners,
    event_id bigint NOT NULL,
    allowed_at timestamptz NOT NULL DEFAULT now(),
    allowed_by text NOT NULL,
    PRIMARY KEY (timing_partner_id, event_id)
);
COMMENT ON TABLE bib_push_events IS 'One row: an event whose local bibs may be sent to RunSignup. No row: nothing is sent.';
COMMENT ON COLUMN bib_push_events.timing_partner_id IS 'The partner whose credential sends them.';
COMMENT ON COLUMN bib_push_events.event_id IS 'The event.';
COMMENT ON COLUMN bib_push_events.allowed_at IS 'When it was allowed.';
COMMENT ON COLUMN bib_push_events.allowed_by IS 'Who allowed it: user and machine.';

CREATE TABLE bib_pushes (
    bib_push_id bigserial PRIMARY KEY,
    timing_partner_id integer NOT NULL REFERENCES timing_partners,
    race_id bigint NOT NULL,
    event_id bigint NOT NULL,
    registration_id bigint NOT NULL,
    bib text NOT NULL,
    sent_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    sent_by text NOT NULL,
    attempts integer NOT NULL DEFAULT 1,
    run_id text NOT NULL,
    answer text,
    outcome text CHECK (outcome IN ('confirmed', 'overtaken', 'refused')),
    settled_at timestamptz,
    -- No foreign key: with one, TRUNCATE of the bib log would be refused for another reason than that it is append-only.
    bib_change_id bigint,
    CHECK ((outcome IS NULL) = (settled_at IS NULL)),
    CHECK (outcome IS DISTINCT FROM 'confirmed' OR bib_change_id IS NOT NULL)
);
CREATE UNIQUE INDEX bib_pushes_open ON bib_pushes (timing_partner_id, registration_id, bib) WHERE outcome IS NULL;
CREATE INDEX bib_pushes_event ON bib_pushes (timing_partner_id, event_id);
COMMENT ON TABLE bib_pushes IS 'One row: a bib given here that was sent to RunSignup. It is written before the call.';
COMMENT ON COLUMN bib_pushes.bib_push_id IS 'Number of the push.';
COMMENT ON COLUMN bib_pushes.timing_partner_id IS 'The partner.';
COMMENT ON COLUMN bib_pushes.race_id IS 'The race.';
COMMENT ON COLUMN bib_pushes.event_id IS 'The event.';
COMMENT ON COLUMN bib_pushes.registration_id IS 'The registration.';
COMMENT ON COLUMN bib_pushes.bib IS 'The bib.';
COMMENT ON COLUMN bib_pushes.sent_at IS 'When it was last sent, or was about to be.';
COMMENT ON COLUMN bib_pushes.sent_by IS 'Who sent it: user and machine.';
COMMENT ON COLUMN bib_pushes.attempts IS 'How often it was sent.';
COMMENT ON COLUMN bib_pushes.run_id IS 'The run that sent it.';
COMMENT ON COLUMN bib_pushes.answer IS 'What RunSignup answered, in one sentence; NULL while it is not known. Shown, never believed.';
COMMENT ON COLUMN bib_pushes.outcome IS 'confirmed: a read had the bib. overtaken: a read had another one, or the registration is gone. refused: RunSignup refused it, and a read did not have it. NULL while no read has shown any of these.';
COMMENT ON COLUMN bib_pushes.settled_at IS 'When the outcome was known; NULL before.';
COMMENT ON COLUMN bib_pushes.bib_change_id IS 'The row of the bib log that shows it; NULL for none.';

ALTER TABLE runsignup_bib_changes ADD COLUMN source text NOT NULL DEFAULT 'runsignup' CHECK (source IN ('runsignup', 'hub'));
COMMENT ON COLUMN runsignup_bib_changes.source IS 'hub: the bib was given here and sent to RunSignup. runsignup: it was given there.';
