-- last_modified of a race is to the minute and does not move with every change, so a detail also has an age.

ALTER TABLE runsignup_races ADD COLUMN detail_read_at timestamptz;
COMMENT ON COLUMN runsignup_races.detail_read_at IS 'When its full detail was last read, by RunSignup''s clock; NULL before.';
COMMENT ON COLUMN pass_registrations.missing IS 'Of a full pass, true: stored here and absent; false: not seen, as a page had a row without id. Of an incremental pass, false: seen active.';
COMMENT ON TABLE pass_counts IS 'One row: what RunSignup last answered of an event, as far as a full pass under way has come; gone with its pass.';
