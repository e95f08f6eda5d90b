-- The removed registrations of an event, which are few. Each full read of a race asks twice whether there are any, and read all
-- rows of its events to find none.

CREATE INDEX runsignup_participants_removed ON runsignup_participants (event_id, timing_partner_id) WHERE removed_at IS NOT NULL;
