-- A past event counts as read only if a second moment of RunSignup agrees that nothing follows an empty answer.

ALTER TABLE history_events DROP CONSTRAINT history_events_state_check;
ALTER TABLE history_events ADD CONSTRAINT history_events_state_check
    CHECK (state IN ('loaded', 'empty', 'unavailable', 'unconfirmed'));
COMMENT ON COLUMN history_events.state IS 'loaded; empty: RunSignup answered with no registration; unconfirmed: an empty answer is the only evidence that nothing more follows, and it is read again an hour later; unavailable: RunSignup refuses this edition, more than a year old.';
COMMENT ON COLUMN history_races.retry_at IS 'When it is tried again, after a failure or to confirm an empty answer; NULL for at once.';

ALTER TABLE read_passes ADD COLUMN is_last_short boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN read_passes.is_last_short IS 'Whether the last page with active registrations had fewer than requested, which supports that an empty one ends the feed.';
