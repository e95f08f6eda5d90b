-- Bibs that were given here to a registration that another one has replaced. The alert rules search them every half a minute.

CREATE INDEX runsignup_participants_left_bibs ON runsignup_participants (timing_partner_id, registration_id)
    WHERE local_bib IS NOT NULL AND removed_at IS NOT NULL AND new_registration_id IS NOT NULL;
