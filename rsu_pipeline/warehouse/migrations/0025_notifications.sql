-- Notifications (LISTEN/NOTIFY) of bib changes and of changed registrations, in the transaction that stores them.
-- A bib is cut here, because PostgreSQL refuses a notification of 8,000 bytes and would refuse the transaction with it.

CREATE FUNCTION rsu_notify_bib_changes() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_notify('rsu_bib_changes', json_build_object('change', bib_change_id, 'partner', timing_partner_id,
        'race', race_id, 'event', event_id, 'registration', registration_id, 'old', left(old_bib, 100),
        'new', left(new_bib, 100))::text)
    FROM logged ORDER BY bib_change_id;
    RETURN NULL;
END $$;
CREATE TRIGGER notify_bib_changes AFTER INSERT ON runsignup_bib_changes REFERENCING NEW TABLE AS logged
    FOR EACH STATEMENT EXECUTE FUNCTION rsu_notify_bib_changes();

-- PostgreSQL sends equal notifications of a transaction once, so that this is one for each event and transaction. A merge calls
-- it once for each event of its page.
CREATE FUNCTION rsu_notify_participants(partner integer, race bigint, event bigint) RETURNS boolean
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT pg_notify('rsu_participants', json_build_object('partner', partner, 'race', race, 'event', event)::text);
    SELECT true;
$$;

-- What changes registrations beside the merge of active ones: removals, transfers, erasures, bibs given here. The condition is
-- evaluated without a call, so that a row that only gets other content costs no call.
CREATE FUNCTION rsu_notify_participant() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('SELECT %I.rsu_notify_participants($1, $2, $3)', TG_TABLE_SCHEMA)
    USING NEW.timing_partner_id, NEW.race_id, NEW.event_id;
    IF OLD.event_id IS DISTINCT FROM NEW.event_id THEN
        EXECUTE format('SELECT %I.rsu_notify_participants($1, $2, $3)', TG_TABLE_SCHEMA)
        USING OLD.timing_partner_id, OLD.race_id, OLD.event_id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER notify_participant AFTER UPDATE ON runsignup_participants FOR EACH ROW
    WHEN (OLD.removed_at IS DISTINCT FROM NEW.removed_at OR OLD.removed_reason IS DISTINCT FROM NEW.removed_reason
        OR OLD.new_registration_id IS DISTINCT FROM NEW.new_registration_id OR OLD.event_id IS DISTINCT FROM NEW.event_id
        OR OLD.local_bib IS DISTINCT FROM NEW.local_bib OR (NEW.seal IS NULL AND OLD.changed_at IS DISTINCT FROM NEW.changed_at))
    EXECUTE FUNCTION rsu_notify_participant();
