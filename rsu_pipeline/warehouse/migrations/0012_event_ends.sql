-- RunSignup rarely sends an end. The assumed one takes its place in ends_at; end_time stays RunSignup's word.

UPDATE runsignup_events
SET ends_at = starts_at + CASE WHEN start_time::time = '00:00' THEN interval '1 day' ELSE interval '6 hours' END
WHERE starts_at IS NOT NULL AND (ends_at IS NULL OR ends_at < starts_at);

COMMENT ON COLUMN runsignup_events.ends_at IS 'End, as an instant. Where end_time has none: 6 h after the start (RSU_EVENT_HOURS), or a day after a start at 00:00.';
COMMENT ON COLUMN future_events.tier IS 'How near it is: undated, later (over 24 h), day (24 to 4 h), window (4 h before the start until it is over), over (its closing reads are due).';
COMMENT ON COLUMN future_events.over_at IS 'When it is over; it stays due until a full read that began later has succeeded. NULL for an undated event.';
