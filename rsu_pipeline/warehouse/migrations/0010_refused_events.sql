-- Events that RunSignup refuses while it answers for others of the same race.

CREATE TABLE refused_events (
    timing_partner_id integer NOT NULL REFERENCES timing_partners ON DELETE CASCADE,
    event_id bigint NOT NULL REFERENCES runsignup_events ON DELETE CASCADE,
    refused_at timestamptz NOT NULL DEFAULT now(),
    reason text NOT NULL,
    PRIMARY KEY (timing_partner_id, event_id)
);
COMMENT ON TABLE refused_events IS 'One row: an event that RunSignup refuses for a partner. It is requested apart from its race''s other events.';
COMMENT ON COLUMN refused_events.timing_partner_id IS 'The partner.';
COMMENT ON COLUMN refused_events.event_id IS 'The event.';
COMMENT ON COLUMN refused_events.refused_at IS 'When RunSignup last refused it.';
COMMENT ON COLUMN refused_events.reason IS 'RunSignup''s answer.';
