-- Webhooks: an outbox that the storing transaction writes, and only where a webhook wants its kind. docs/webhooks.md.

CREATE TABLE webhooks (
    webhook_id serial PRIMARY KEY,
    timing_partner_id integer REFERENCES timing_partners,
    host text NOT NULL,
    url text NOT NULL,
    secret text NOT NULL,
    kinds text[] NOT NULL CHECK (cardinality(kinds) > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    disabled_at timestamptz,
    failures integer NOT NULL DEFAULT 0,
    failing_since timestamptz,
    retry_at timestamptz,
    last_error text,
    delivered_at timestamptz
);
COMMENT ON TABLE webhooks IS 'One row: an address that is sent the changes of a partner, or of all.';
COMMENT ON COLUMN webhooks.webhook_id IS 'Number of the webhook.';
COMMENT ON COLUMN webhooks.timing_partner_id IS 'The partner whose changes it is sent; NULL: of all partners.';
COMMENT ON COLUMN webhooks.host IS 'Host and port of the address, for people.';
COMMENT ON COLUMN webhooks.url IS 'The address, encrypted (sealed:...).';
COMMENT ON COLUMN webhooks.secret IS 'The secret that signs messages, encrypted (sealed:...).';
COMMENT ON COLUMN webhooks.kinds IS 'Kinds of messages that it is sent, as docs/webhooks.md has them.';
COMMENT ON COLUMN webhooks.created_at IS 'When it was added. It is sent what is stored from then on.';
COMMENT ON COLUMN webhooks.disabled_at IS 'When its receiver answered that it is gone (HTTP 410). Nothing is queued or sent since.';
COMMENT ON COLUMN webhooks.failures IS 'Attempts in a row that failed.';
COMMENT ON COLUMN webhooks.failing_since IS 'When the first of them failed; NULL when the last attempt succeeded.';
COMMENT ON COLUMN webhooks.retry_at IS 'When it is sent something next after a failure; NULL: at once.';
COMMENT ON COLUMN webhooks.last_error IS 'Why the last attempt failed, in one sentence without the address.';
COMMENT ON COLUMN webhooks.delivered_at IS 'When it last accepted a message.';

CREATE TABLE webhook_messages (
    message_id bigserial PRIMARY KEY,
    message_key uuid NOT NULL DEFAULT gen_random_uuid(),
    webhook_id integer NOT NULL REFERENCES webhooks ON DELETE CASCADE,
    kind text NOT NULL,
    subject text NOT NULL,
    body json NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts integer NOT NULL DEFAULT 0,
    first_tried_at timestamptz,
    retry_at timestamptz,
    last_error text,
    delivered_at timestamptz,
    dead_at timestamptz
);
CREATE INDEX webhook_messages_pending ON webhook_messages (webhook_id, message_id)
    WHERE delivered_at IS NULL AND dead_at IS NULL;
CREATE INDEX webhook_messages_subject ON webhook_messages (webhook_id, subject, message_id)
    WHERE delivered_at IS NULL AND dead_at IS NULL;
CREATE INDEX webhook_messages_dead ON webhook_messages (webhook_id, message_id) WHERE dead_at IS NOT NULL;
COMMENT ON TABLE webhook_messages IS 'One row: a message to a webhook, written by the transaction that stored the change. The outbox.';
COMMENT ON COLUMN webhook_messages.message_id IS 'Number of the message; rises within a subject.';
COMMENT ON COLUMN webhook_messages.message_key IS 'Its webhook-id, the same at every attempt.';
COMMENT ON COLUMN webhook_messages.webhook_id IS 'The webhook.';
COMMENT ON COLUMN webhook_messages.kind IS 'Kind of message, as docs/webhooks.md has them.';
COMMENT ON COLUMN webhook_messages.subject IS 'Partner and registration, or partner and event. Messages of a subject are sent in order.';
COMMENT ON COLUMN webhook_messages.body IS 'The message as it is sent, byte for byte.';
COMMENT ON COLUMN webhook_messages.created_at IS 'When the change was stored.';
COMMENT ON COLUMN webhook_messages.attempts IS 'How often it was sent.';
COMMENT ON COLUMN webhook_messages.first_tried_at IS 'When it was first sent.';
COMMENT ON COLUMN webhook_messages.retry_at IS 'When it is sent again after a failure; NULL: at once.';
COMMENT ON COLUMN webhook_messages.last_error IS 'Why the last attempt failed.';
COMMENT ON COLUMN webhook_messages.delivered_at IS 'When the receiver accepted it; NULL before.';
COMMENT ON COLUMN webhook_messages.dead_at IS 'When it was given up; NULL otherwise. `rsu webhooks redeliver` sends it again.';

CREATE TABLE webhook_worker (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    machine text NOT NULL,
    alive_at timestamptz NOT NULL
);
COMMENT ON TABLE webhook_worker IS 'At most one row: the process that delivers messages.';
COMMENT ON COLUMN webhook_worker.is_only IS 'true.';
COMMENT ON COLUMN webhook_worker.machine IS 'Its host and process id.';
COMMENT ON COLUMN webhook_worker.alive_at IS 'Its last heartbeat, by the database''s clock.';

-- As owner, because a role that may write bibs or registrations need not be allowed to write here.
CREATE FUNCTION rsu_queue_bib_changes() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    queued bigint;
BEGIN
    EXECUTE format($statement$
        INSERT INTO %1$I.webhook_messages (webhook_id, kind, subject, body)
        SELECT w.webhook_id, 'bib.changed', b.timing_partner_id || '/registration/' || b.registration_id,
            json_build_object('type', 'bib.changed',
                'timestamp', to_char(b.recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                'data', json_build_object('partner', b.timing_partner_id, 'race', b.race_id, 'event', b.event_id,
                    'registration', b.registration_id, 'change', b.bib_change_id, 'kind', b.kind, 'old', b.old_bib, 'new', b.new_bib))
        FROM logged b JOIN %1$I.webhooks w ON coalesce(w.timing_partner_id, b.timing_partner_id) = b.timing_partner_id
            AND w.disabled_at IS NULL AND 'bib.changed' = ANY (w.kinds)
        ORDER BY b.bib_change_id, w.webhook_id
        $statement$, TG_TABLE_SCHEMA);
    GET DIAGNOSTICS queued = ROW_COUNT;
    IF queued > 0 THEN
        PERFORM pg_notify('rsu_webhook_messages', '');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER queue_bib_changes AFTER INSERT ON runsignup_bib_changes REFERENCING NEW TABLE AS logged
    FOR EACH STATEMENT EXECUTE FUNCTION rsu_queue_bib_changes();

CREATE FUNCTION rsu_queue_registration() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    its_kind text := CASE WHEN NEW.removed_at IS NULL THEN 'registration.restored'
        WHEN NEW.new_registration_id IS NOT NULL OR NEW.removed_reason = 'transferred' THEN 'registration.transferred'
        ELSE 'registration.removed' END;
    queued bigint;
BEGIN
    EXECUTE format($statement$
        INSERT INTO %1$I.webhook_messages (webhook_id, kind, subject, body)
        SELECT w.webhook_id, $1, $2 || '/registration/' || $3, json_build_object('type', $1,
            'timestamp', to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
            'data', json_build_object('partner', $2, 'race', $4, 'event', $5, 'registration', $3, 'reason', $6,
                'new_registration', $7))
        FROM %1$I.webhooks w
        WHERE coalesce(w.timing_partner_id, $2) = $2 AND w.disabled_at IS NULL AND $1 = ANY (w.kinds)
        ORDER BY w.webhook_id
        $statement$, TG_TABLE_SCHEMA)
    USING its_kind, NEW.timing_partner_id, NEW.registration_id, NEW.race_id, NEW.event_id, NEW.removed_reason,
        NEW.new_registration_id;
    GET DIAGNOSTICS queued = ROW_COUNT;
    IF queued > 0 THEN
        PERFORM pg_notify('rsu_webhook_messages', '');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER queue_registration AFTER UPDATE ON runsignup_participants FOR EACH ROW
    WHEN ((OLD.removed_at IS NULL) <> (NEW.removed_at IS NULL) OR OLD.removed_reason IS DISTINCT FROM NEW.removed_reason
        OR OLD.new_registration_id IS DISTINCT FROM NEW.new_registration_id)
    EXECUTE FUNCTION rsu_queue_registration();

CREATE FUNCTION rsu_queue_start_list() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    queued bigint;
BEGIN
    EXECUTE format($statement$
        INSERT INTO %1$I.webhook_messages (webhook_id, kind, subject, body)
        SELECT w.webhook_id, 'start_list.rebuilt', $1 || '/event/' || $2, json_build_object('type', 'start_list.rebuilt',
            'timestamp', to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
            'data', json_build_object('partner', $1, 'race', $3, 'event', $2, 'entrants', $4, 'with_bib', $5, 'without_bib', $6,
                'duplicate_bibs', $7))
        FROM %1$I.webhooks w
        WHERE coalesce(w.timing_partner_id, $1) = $1 AND w.disabled_at IS NULL AND 'start_list.rebuilt' = ANY (w.kinds)
        ORDER BY w.webhook_id
        $statement$, TG_TABLE_SCHEMA)
    USING NEW.timing_partner_id, NEW.event_id, NEW.race_id, NEW.entrants, NEW.with_bib, NEW.without_bib, NEW.duplicate_bibs;
    GET DIAGNOSTICS queued = ROW_COUNT;
    IF queued > 0 THEN
        PERFORM pg_notify('rsu_webhook_messages', '');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER queue_start_list AFTER INSERT OR UPDATE ON start_lists FOR EACH ROW EXECUTE FUNCTION rsu_queue_start_list();
