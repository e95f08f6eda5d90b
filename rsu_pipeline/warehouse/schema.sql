-- Generated from the migrations by `make docs`, to be read. The migrations make the schema.

CREATE FUNCTION public.rsu_bib(bib_num text, team_info jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    -- The index on bibs refuses longer ones; bib_num is checked where it is staged.
    SELECT coalesce(bib_num, CASE WHEN octet_length(team_info ->> 'team_bib_num') <= 1000
        THEN nullif(btrim(team_info ->> 'team_bib_num', E' \t\r\n'), '') END)
$$;

COMMENT ON FUNCTION public.rsu_bib(bib_num text, team_info jsonb) IS 'The bib that counts for a registration at RunSignup: its own, else its team''s.';

CREATE FUNCTION public.rsu_blank_quarantined() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    registration bigint := coalesce(NEW.registration_id,
        substring(NEW.row_text FROM '"registration_id"\s*:\s*"?([0-9]{1,18})')::bigint);
    account bigint := substring(NEW.row_text FROM '"user_id"\s*:\s*"?([0-9]{1,18})')::bigint;
    event bigint := substring(NEW.row_text FROM '"event_id"\s*:\s*"?([0-9]{1,18})')::bigint;
BEGIN
    IF EXISTS (SELECT FROM erased_registrations x WHERE x.registration_id = registration
            AND coalesce(x.timing_partner_id, NEW.timing_partner_id) = NEW.timing_partner_id)
        OR EXISTS (SELECT FROM erased_users u WHERE u.user_id = account
            AND coalesce(u.timing_partner_id, NEW.timing_partner_id) = NEW.timing_partner_id)
        OR EXISTS (SELECT FROM contact_retention c JOIN runsignup_events e ON greatest(e.start_time, e.end_time) < c.before
            WHERE e.event_id = event) THEN
        NEW.row_text := NULL;
        IF NEW.reason LIKE 'PostgreSQL:%' THEN
            -- The server's words may repeat a value.
            NEW.reason := 'PostgreSQL: a member was refused';
        END IF;
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION public.rsu_forget_access() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF (NEW.principal IS DISTINCT FROM OLD.principal AND NEW.principal NOT LIKE 'sealed:%')
        OR (NEW.secret IS DISTINCT FROM OLD.secret AND NEW.secret NOT LIKE 'sealed:%') THEN
        NEW.verified_at := NULL;
        NEW.rejected_at := NULL;
        NEW.rejected_reason := NULL;
        NEW.entered_at := now();
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION public.rsu_forget_api_key() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF NEW.principal IS DISTINCT FROM OLD.principal THEN
        NEW.api_key_id := NULL;
    END IF;
    IF NEW.principal IS DISTINCT FROM OLD.principal AND coalesce(NEW.principal, '') NOT LIKE 'sealed:%' THEN
        NEW.shares_api_key := NEW.shares_api_key AND NOT OLD.shares_api_key;
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION public.rsu_name_api_key() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    NEW.api_key_id := (
        SELECT c.api_key_id FROM partner_provider_credentials c
        WHERE c.partner_provider_credential_id = NEW.credential_id
    );
    RETURN NEW;
END $$;

CREATE FUNCTION public.rsu_note_foreign_write() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
DECLARE
    mark text := TG_TABLE_NAME || ' ' || TG_OP || ';';
    noted text := coalesce(current_setting('rsu.foreign_writes', true), '');
BEGIN
    -- Once in a transaction, since a program that writes row by row would otherwise write as many versions of one row here.
    IF strpos(noted, mark) = 0 THEN
        PERFORM set_config('rsu.foreign_writes', noted || mark, true);
        EXECUTE format('INSERT INTO %I.foreign_writes AS w (seen_on, table_name, operation, login, program, address, first_at,'
            ' last_at) VALUES ((clock_timestamp() AT TIME ZONE ''UTC'')::date, $1, $2, $3, $4, $5, clock_timestamp(),'
            ' clock_timestamp()) ON CONFLICT (seen_on, table_name, operation, login, program, address) DO UPDATE'
            ' SET last_at = excluded.last_at, transactions = w.transactions + 1', TG_TABLE_SCHEMA)
        USING TG_TABLE_NAME, TG_OP, session_user::text, current_setting('application_name'),
            coalesce(host(inet_client_addr()), 'local');
    END IF;
    RETURN NULL;
END $_$;

CREATE FUNCTION public.rsu_notify_bib_changes() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    PERFORM pg_notify('rsu_bib_changes', json_build_object('change', bib_change_id, 'partner', timing_partner_id,
        'race', race_id, 'event', event_id, 'registration', registration_id, 'old', left(old_bib, 100),
        'new', left(new_bib, 100))::text)
    FROM logged ORDER BY bib_change_id;
    RETURN NULL;
END $$;

CREATE FUNCTION public.rsu_notify_participant() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
BEGIN
    EXECUTE format('SELECT %I.rsu_notify_participants($1, $2, $3)', TG_TABLE_SCHEMA)
    USING NEW.timing_partner_id, NEW.race_id, NEW.event_id;
    IF OLD.event_id IS DISTINCT FROM NEW.event_id THEN
        EXECUTE format('SELECT %I.rsu_notify_participants($1, $2, $3)', TG_TABLE_SCHEMA)
        USING OLD.timing_partner_id, OLD.race_id, OLD.event_id;
    END IF;
    RETURN NULL;
END $_$;

CREATE FUNCTION public.rsu_notify_participants(partner integer, race bigint, event bigint) RETURNS boolean
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT pg_notify('rsu_participants', json_build_object('partner', partner, 'race', race, 'event', event)::text);
    SELECT true;
$$;

CREATE FUNCTION public.rsu_queue_bib_changes() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
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
END $_$;

CREATE FUNCTION public.rsu_queue_registration() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
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
END $_$;

CREATE FUNCTION public.rsu_queue_start_list() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
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
END $_$;

CREATE FUNCTION public.rsu_refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END $$;

CREATE FUNCTION public.rsu_touch_updated_at() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END $$;

CREATE TABLE public.accepted_schema_drift (
    field text NOT NULL,
    accepted_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE public.accepted_schema_drift IS 'One row: an unknown field that an operator accepted, so that no check reports it.';

COMMENT ON COLUMN public.accepted_schema_drift.field IS 'Name of the field.';

COMMENT ON COLUMN public.accepted_schema_drift.accepted_at IS 'When it was accepted.';

CREATE TABLE public.alerts (
    alert_id bigint NOT NULL,
    kind text NOT NULL,
    cause text NOT NULL,
    partner text,
    sentence text NOT NULL,
    run_id text,
    first_seen_at timestamp with time zone NOT NULL,
    last_seen_at timestamp with time zone NOT NULL,
    looks_missed integer DEFAULT 0 NOT NULL,
    told_at timestamp with time zone,
    failed_sends integer DEFAULT 0 NOT NULL,
    cleared_at timestamp with time zone,
    cleared_told_at timestamp with time zone
);

COMMENT ON TABLE public.alerts IS 'One row: a cause that somebody must act on, from when it was first seen until it was gone. Holds no personal data.';

COMMENT ON COLUMN public.alerts.alert_id IS 'Number of the alert.';

COMMENT ON COLUMN public.alerts.kind IS 'Kind of problem, as docs/alerts.md has it.';

COMMENT ON COLUMN public.alerts.cause IS 'What is wrong, the same at each evaluation: numbers of the partner, race or event, or a job.';

COMMENT ON COLUMN public.alerts.partner IS 'Partition key of the partner; NULL when it is nobody''s in particular.';

COMMENT ON COLUMN public.alerts.sentence IS 'The sentence for operators, as of the last evaluation that found the problem.';

COMMENT ON COLUMN public.alerts.run_id IS 'The run it comes from; NULL when it comes from none.';

COMMENT ON COLUMN public.alerts.first_seen_at IS 'When an evaluation first found it.';

COMMENT ON COLUMN public.alerts.last_seen_at IS 'When an evaluation last found it.';

COMMENT ON COLUMN public.alerts.looks_missed IS 'Evaluations in a row that did not find it; at the second it is resolved.';

COMMENT ON COLUMN public.alerts.told_at IS 'When operators were last notified; NULL: not notified.';

COMMENT ON COLUMN public.alerts.failed_sends IS 'Messages about it that no notifier took.';

COMMENT ON COLUMN public.alerts.cleared_at IS 'When it was gone; NULL while it is open.';

COMMENT ON COLUMN public.alerts.cleared_told_at IS 'When operators were notified that it is resolved; NULL: not notified.';

CREATE SEQUENCE public.alerts_alert_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.alerts_alert_id_seq OWNED BY public.alerts.alert_id;

CREATE TABLE public.api_calls (
    api_call_id bigint NOT NULL,
    credential_id integer NOT NULL,
    lane text NOT NULL,
    endpoint text NOT NULL,
    race_id bigint,
    granted_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    holder_pid integer DEFAULT pg_backend_pid() NOT NULL,
    settled_at timestamp with time zone,
    status integer,
    error text,
    bytes bigint,
    rows integer,
    api_key_id integer
);

COMMENT ON TABLE public.api_calls IS 'One row: a call to RunSignup that was granted, retries included. The call budget is counted here.';

COMMENT ON COLUMN public.api_calls.api_call_id IS 'Number of the grant.';

COMMENT ON COLUMN public.api_calls.credential_id IS 'The credential it was made with.';

COMMENT ON COLUMN public.api_calls.lane IS 'race_day, new_partner, routine or backfill.';

COMMENT ON COLUMN public.api_calls.endpoint IS 'races, race, participants, removed-participants.';

COMMENT ON COLUMN public.api_calls.race_id IS 'The race asked about; NULL for the listing.';

COMMENT ON COLUMN public.api_calls.granted_at IS 'When it was granted, by the database''s clock.';

COMMENT ON COLUMN public.api_calls.holder_pid IS 'Backend of the session that took it; gone when that process is.';

COMMENT ON COLUMN public.api_calls.settled_at IS 'When its outcome was reported; NULL while in flight, and permanently after a kill.';

COMMENT ON COLUMN public.api_calls.status IS 'HTTP status.';

COMMENT ON COLUMN public.api_calls.error IS 'Cause of failure; NULL when it succeeded.';

COMMENT ON COLUMN public.api_calls.bytes IS 'Size of the answer''s body, decompressed.';

COMMENT ON COLUMN public.api_calls.rows IS 'Rows in the answer.';

COMMENT ON COLUMN public.api_calls.api_key_id IS 'The API key it counts against. NULL for calls made before the API key was known.';

CREATE SEQUENCE public.api_calls_api_call_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.api_calls_api_call_id_seq OWNED BY public.api_calls.api_call_id;

CREATE TABLE public.bib_changes_handled (
    bib_change_id bigint NOT NULL,
    handled_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

COMMENT ON TABLE public.bib_changes_handled IS 'One row: a bib change that the sensor bib_changes has reported at the partner''s partition.';

COMMENT ON COLUMN public.bib_changes_handled.bib_change_id IS 'The change.';

COMMENT ON COLUMN public.bib_changes_handled.handled_at IS 'When it was reported.';

CREATE TABLE public.bib_push_events (
    timing_partner_id integer NOT NULL,
    event_id bigint NOT NULL,
    allowed_at timestamp with time zone DEFAULT now() NOT NULL,
    allowed_by text NOT NULL
);

COMMENT ON TABLE public.bib_push_events IS 'One row: an event whose local bibs may be sent to RunSignup. No row: nothing is sent.';

COMMENT ON COLUMN public.bib_push_events.timing_partner_id IS 'The partner whose credential sends them.';

COMMENT ON COLUMN public.bib_push_events.event_id IS 'The event.';

COMMENT ON COLUMN public.bib_push_events.allowed_at IS 'When it was allowed.';

COMMENT ON COLUMN public.bib_push_events.allowed_by IS 'Who allowed it: user and machine.';

CREATE TABLE public.bib_pushes (
    bib_push_id bigint NOT NULL,
    timing_partner_id integer NOT NULL,
    race_id bigint NOT NULL,
    event_id bigint NOT NULL,
    registration_id bigint NOT NULL,
    bib text NOT NULL,
    sent_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    sent_by text NOT NULL,
    attempts integer DEFAULT 1 NOT NULL,
    run_id text NOT NULL,
    answer text,
    outcome text,
    settled_at timestamp with time zone,
    bib_change_id bigint,
    CONSTRAINT bib_pushes_check CHECK (((outcome IS NULL) = (settled_at IS NULL))),
    CONSTRAINT bib_pushes_check1 CHECK (((outcome IS DISTINCT FROM 'confirmed'::text) OR (bib_change_id IS NOT NULL))),
    CONSTRAINT bib_pushes_outcome_check CHECK ((outcome = ANY (ARRAY['confirmed'::text, 'overtaken'::text, 'refused'::text])))
);

COMMENT ON TABLE public.bib_pushes IS 'One row: a bib given here that was sent to RunSignup. It is written before the call.';

COMMENT ON COLUMN public.bib_pushes.bib_push_id IS 'Number of the push.';

COMMENT ON COLUMN public.bib_pushes.timing_partner_id IS 'The partner.';

COMMENT ON COLUMN public.bib_pushes.race_id IS 'The race.';

COMMENT ON COLUMN public.bib_pushes.event_id IS 'The event.';

COMMENT ON COLUMN public.bib_pushes.registration_id IS 'The registration.';

COMMENT ON COLUMN public.bib_pushes.bib IS 'The bib.';

COMMENT ON COLUMN public.bib_pushes.sent_at IS 'When it was last sent, or was about to be.';

COMMENT ON COLUMN public.bib_pushes.sent_by IS 'Who sent it: user and machine.';

COMMENT ON COLUMN public.bib_pushes.attempts IS 'How often it was sent.';

COMMENT ON COLUMN public.bib_pushes.run_id IS 'The run that sent it.';

COMMENT ON COLUMN public.bib_pushes.answer IS 'What RunSignup answered, in one sentence; NULL while it is not known. Shown, never believed.';

COMMENT ON COLUMN public.bib_pushes.outcome IS 'confirmed: a read had the bib. overtaken: a read had another one, or the registration is gone. refused: RunSignup refused it, and a read did not have it. NULL while no read has shown any of these.';

COMMENT ON COLUMN public.bib_pushes.settled_at IS 'When the outcome was known; NULL before.';

COMMENT ON COLUMN public.bib_pushes.bib_change_id IS 'The row of the bib log that shows it; NULL for none.';

CREATE SEQUENCE public.bib_pushes_bib_push_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.bib_pushes_bib_push_id_seq OWNED BY public.bib_pushes.bib_push_id;

CREATE TABLE public.contact_retention (
    is_set boolean DEFAULT true NOT NULL,
    before date NOT NULL,
    set_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT contact_retention_is_set_check CHECK (is_set)
);

COMMENT ON TABLE public.contact_retention IS 'One row at most: from when on contact data is kept. A later read leaves it out of events that were over before.';

COMMENT ON COLUMN public.contact_retention.is_set IS 'true: there is one row.';

COMMENT ON COLUMN public.contact_retention.before IS 'Contact data of events that were over before this day, the race''s calendar, is not kept.';

COMMENT ON COLUMN public.contact_retention.set_at IS 'When that was last moved.';

CREATE TABLE public.runsignup_events (
    event_id bigint NOT NULL,
    race_id bigint NOT NULL,
    timing_partner_id integer,
    race_event_days_id bigint,
    name text,
    details text,
    giveaway text,
    start_time timestamp without time zone,
    starts_at timestamp with time zone,
    end_time timestamp without time zone,
    ends_at timestamp with time zone,
    registration_opens timestamp without time zone,
    age_calc_base_date date,
    event_type text,
    distance numeric(10,2),
    distance_text text,
    volunteer boolean,
    require_dob boolean,
    require_phone boolean,
    is_bundle boolean DEFAULT false NOT NULL,
    sub_event_ids bigint[],
    gone_at timestamp with time zone,
    credentials_used character varying(255),
    payload jsonb,
    fetched_date timestamp without time zone DEFAULT now(),
    created_at timestamp without time zone DEFAULT now(),
    vanished_at timestamp with time zone
);

COMMENT ON TABLE public.runsignup_events IS 'One row: an event of a race, of any edition.';

COMMENT ON COLUMN public.runsignup_events.event_id IS 'RunSignup''s number of the event.';

COMMENT ON COLUMN public.runsignup_events.race_id IS 'The race it belongs to.';

COMMENT ON COLUMN public.runsignup_events.timing_partner_id IS 'A partner that can read its race now (see race_owners).';

COMMENT ON COLUMN public.runsignup_events.race_event_days_id IS 'Groups the events of one edition.';

COMMENT ON COLUMN public.runsignup_events.name IS 'Name of the event.';

COMMENT ON COLUMN public.runsignup_events.details IS 'Description.';

COMMENT ON COLUMN public.runsignup_events.giveaway IS 'What entrants choose, a shirt for one.';

COMMENT ON COLUMN public.runsignup_events.start_time IS 'Start, wall time in the race''s zone.';

COMMENT ON COLUMN public.runsignup_events.starts_at IS 'Start, as an instant.';

COMMENT ON COLUMN public.runsignup_events.end_time IS 'End, wall time in the race''s zone; NULL for most.';

COMMENT ON COLUMN public.runsignup_events.ends_at IS 'End, as an instant. Where end_time has none: 6 h after the start (RSU_EVENT_HOURS), or a day after a start at 00:00.';

COMMENT ON COLUMN public.runsignup_events.registration_opens IS 'When registration opens, wall time in the race''s zone.';

COMMENT ON COLUMN public.runsignup_events.age_calc_base_date IS 'Day on which ages count, where the race sets one.';

COMMENT ON COLUMN public.runsignup_events.event_type IS 'RunSignup''s word for the kind of event; an open set.';

COMMENT ON COLUMN public.runsignup_events.distance IS 'The number in distance_text, in whatever unit that names.';

COMMENT ON COLUMN public.runsignup_events.distance_text IS 'Distance with its unit, as RunSignup has it.';

COMMENT ON COLUMN public.runsignup_events.volunteer IS 'Whether its registrations are volunteers, not runners.';

COMMENT ON COLUMN public.runsignup_events.require_dob IS 'Whether registrants must give a birth date.';

COMMENT ON COLUMN public.runsignup_events.require_phone IS 'Whether registrants must give a phone number.';

COMMENT ON COLUMN public.runsignup_events.is_bundle IS 'Whether registering for it registers for its sub-events too.';

COMMENT ON COLUMN public.runsignup_events.sub_event_ids IS 'Events of a bundle.';

COMMENT ON COLUMN public.runsignup_events.gone_at IS 'When it was confirmed that RunSignup no longer has it; NULL while it has. Its registrations are then removed as event_deleted.';

COMMENT ON COLUMN public.runsignup_events.credentials_used IS 'Partition key of the partner whose credential read the row.';

COMMENT ON COLUMN public.runsignup_events.payload IS 'The event as RunSignup sent it.';

COMMENT ON COLUMN public.runsignup_events.fetched_date IS 'When the row last changed here, in the database''s zone.';

COMMENT ON COLUMN public.runsignup_events.created_at IS 'When the row was made, in the database''s zone.';

COMMENT ON COLUMN public.runsignup_events.vanished_at IS 'When the race''s full detail first lacked it, while nothing else confirms that it is gone; NULL otherwise. It is still read.';

CREATE TABLE public.runsignup_participants (
    id bigint NOT NULL,
    race_id bigint NOT NULL,
    event_id bigint NOT NULL,
    timing_partner_id integer NOT NULL,
    registration_id bigint NOT NULL,
    user_id bigint,
    first_name text,
    middle_name text,
    last_name text,
    email text,
    dob date,
    gender text,
    phone text,
    profile_image_url text,
    bib_num text,
    chip_num text,
    age integer,
    registration_date timestamp without time zone,
    registered_at timestamp with time zone,
    last_modified timestamp without time zone,
    last_modified_epoch bigint,
    address jsonb,
    team_info jsonb,
    payment_info jsonb,
    additional_data jsonb,
    payload json,
    first_bib text,
    local_bib text,
    removed_at timestamp with time zone,
    removed_reason text,
    removed_epoch bigint,
    new_registration_id bigint,
    first_seen_at timestamp with time zone DEFAULT now() NOT NULL,
    changed_at timestamp with time zone DEFAULT now() NOT NULL,
    source_at timestamp with time zone,
    credentials_used character varying(255),
    fetched_date timestamp without time zone DEFAULT now(),
    created_at timestamp without time zone DEFAULT now(),
    seal bigint,
    corral text,
    wave text,
    estimated_finish interval,
    checked_in_at timestamp with time zone,
    coupon_code text,
    coupon_discount numeric,
    corporate_team text,
    registration_notes text,
    addons jsonb,
    memberships jsonb,
    answers json
);
ALTER TABLE ONLY public.runsignup_participants ALTER COLUMN event_id SET (n_distinct=-0.02);

COMMENT ON TABLE public.runsignup_participants IS 'One row: a registration as one partner''s credential sees it, active or removed.';

COMMENT ON COLUMN public.runsignup_participants.id IS 'Number of the row here; means nothing elsewhere.';

COMMENT ON COLUMN public.runsignup_participants.race_id IS 'The race.';

COMMENT ON COLUMN public.runsignup_participants.event_id IS 'The event.';

COMMENT ON COLUMN public.runsignup_participants.timing_partner_id IS 'The partner whose credential read it.';

COMMENT ON COLUMN public.runsignup_participants.registration_id IS 'RunSignup''s number of the registration: with the partner, the identity of the row.';

COMMENT ON COLUMN public.runsignup_participants.user_id IS 'RunSignup account of the person; one may hold several registrations.';

COMMENT ON COLUMN public.runsignup_participants.first_name IS 'First name, as sent.';

COMMENT ON COLUMN public.runsignup_participants.middle_name IS 'Middle name, as sent.';

COMMENT ON COLUMN public.runsignup_participants.last_name IS 'Last name, as sent.';

COMMENT ON COLUMN public.runsignup_participants.email IS 'E-mail address, as sent.';

COMMENT ON COLUMN public.runsignup_participants.dob IS 'Birth date.';

COMMENT ON COLUMN public.runsignup_participants.gender IS 'M, F, X or NULL.';

COMMENT ON COLUMN public.runsignup_participants.phone IS 'Phone number, as sent.';

COMMENT ON COLUMN public.runsignup_participants.profile_image_url IS 'Address of a picture.';

COMMENT ON COLUMN public.runsignup_participants.bib_num IS 'Bib at RunSignup of this registration alone; digits. rsu_bib(bib_num, team_info) is the one that counts.';

COMMENT ON COLUMN public.runsignup_participants.chip_num IS 'Chip at RunSignup.';

COMMENT ON COLUMN public.runsignup_participants.age IS 'Age, as RunSignup stored it for this registration.';

COMMENT ON COLUMN public.runsignup_participants.registration_date IS 'When the person registered, US Eastern wall time to the minute.';

COMMENT ON COLUMN public.runsignup_participants.registered_at IS 'When the person registered, as an instant; in the hour November repeats, the later of the two.';

COMMENT ON COLUMN public.runsignup_participants.last_modified IS 'last_modified_epoch as US Eastern wall time.';

COMMENT ON COLUMN public.runsignup_participants.last_modified_epoch IS 'When RunSignup last changed the registration, Unix seconds.';

COMMENT ON COLUMN public.runsignup_participants.address IS 'street, city, state, zipcode, country_code.';

COMMENT ON COLUMN public.runsignup_participants.team_info IS 'team_id, team_name, team_type_id, team_type, team_gender, team_bib_num, as far as sent.';

COMMENT ON COLUMN public.runsignup_participants.payment_info IS 'Fees and amounts as numbers, as far as sent: null stays null, absent stays absent. An amount in another currency is text, as sent.';

COMMENT ON COLUMN public.runsignup_participants.additional_data IS 'Further members that programs read by name, as far as sent.';

COMMENT ON COLUMN public.runsignup_participants.payload IS 'The registration as RunSignup sent it, members unknown to us included. Text: -> and ->> read it, payload::jsonb has the operators and functions of jsonb.';

COMMENT ON COLUMN public.runsignup_participants.first_bib IS 'Bib that counted (own, else the team''s) when the row came at its event''s first load; the bib log replays from here.';

COMMENT ON COLUMN public.runsignup_participants.local_bib IS 'Bib given here, not at RunSignup; never written by a sync, so no blank upstream wipes it.';

COMMENT ON COLUMN public.runsignup_participants.removed_at IS 'When it went away at RunSignup, or when that was noticed; NULL while active.';

COMMENT ON COLUMN public.runsignup_participants.removed_reason IS 'RunSignup''s word (cleared, removed, transferred, deferred: an open set); missing_upstream: a full read lacked it; event_deleted, race_deleted, access_lost: it went with its event, its race or the access to it.';

COMMENT ON COLUMN public.runsignup_participants.removed_epoch IS 'RunSignup''s time of the removal, Unix seconds; NULL where RunSignup gave none.';

COMMENT ON COLUMN public.runsignup_participants.new_registration_id IS 'The registration a transferred one became. Of an event that was deleted: the same person''s registration in the same race that came with the deletion.';

COMMENT ON COLUMN public.runsignup_participants.first_seen_at IS 'When the registration was first stored.';

COMMENT ON COLUMN public.runsignup_participants.changed_at IS 'When its content last changed here.';

COMMENT ON COLUMN public.runsignup_participants.source_at IS 'RunSignup''s clock at the answer that brought the present content.';

COMMENT ON COLUMN public.runsignup_participants.credentials_used IS 'Partition key of the partner whose credential read the row.';

COMMENT ON COLUMN public.runsignup_participants.fetched_date IS 'When its content last changed here, in the database''s zone.';

COMMENT ON COLUMN public.runsignup_participants.created_at IS 'When the row was made, in the database''s zone.';

COMMENT ON COLUMN public.runsignup_participants.seal IS 'Digest of the row as RunSignup sent it, XOR the hash of the content made of it. A row sent with this digest while the content has this hash is stored unchanged. NULL: not known.';

COMMENT ON COLUMN public.runsignup_participants.corral IS 'Corral; NULL unless requested with corrals.';

COMMENT ON COLUMN public.runsignup_participants.wave IS 'Wave; NULL unless requested with corrals.';

COMMENT ON COLUMN public.runsignup_participants.estimated_finish IS 'Time in which the entrant expects to finish; NULL unless requested with est_finish.';

COMMENT ON COLUMN public.runsignup_participants.checked_in_at IS 'When the entrant was checked in; NULL before, and unless requested with checkin.';

COMMENT ON COLUMN public.runsignup_participants.coupon_code IS 'Code of the coupon that was used; NULL unless requested with coupons.';

COMMENT ON COLUMN public.runsignup_participants.coupon_discount IS 'Discount of the coupon, dollars; NULL unless requested with coupons.';

COMMENT ON COLUMN public.runsignup_participants.corporate_team IS 'Name of the corporate team; NULL unless requested with corp_teams.';

COMMENT ON COLUMN public.runsignup_participants.registration_notes IS 'Notes of the race about the registration; NULL unless requested with notes.';

COMMENT ON COLUMN public.runsignup_participants.addons IS 'Add-ons bought with the registration, read through participant_addons; NULL unless requested with addons.';

COMMENT ON COLUMN public.runsignup_participants.memberships IS 'Memberships that the entrant gave, read through participant_memberships; NULL unless requested with memberships.';

COMMENT ON COLUMN public.runsignup_participants.answers IS 'Questions and answers, read through participant_answers; NULL unless requested with questions. Text: -> and ->> read it, answers::jsonb has the operators and functions of jsonb.';

CREATE TABLE public.runsignup_races (
    race_id bigint NOT NULL,
    timing_partner_id integer,
    name text,
    description text,
    last_date timestamp without time zone,
    last_end_date timestamp without time zone,
    next_date timestamp without time zone,
    next_end_date timestamp without time zone,
    created timestamp without time zone,
    last_modified timestamp without time zone,
    is_draft_race boolean,
    is_private_race boolean,
    is_registration_open boolean,
    real_time_notifications_enabled boolean,
    url text,
    external_race_url text,
    external_results_url text,
    logo_url text,
    fb_page_id text,
    fb_event_id text,
    timezone text,
    address jsonb,
    credentials_used character varying(255),
    payload jsonb,
    detail_as_of timestamp without time zone,
    fetched_date timestamp without time zone DEFAULT now(),
    created_at timestamp without time zone DEFAULT now(),
    detail_read_at timestamp with time zone
);

COMMENT ON TABLE public.runsignup_races IS 'One row: a race as RunSignup lists it now.';

COMMENT ON COLUMN public.runsignup_races.race_id IS 'RunSignup''s number of the race.';

COMMENT ON COLUMN public.runsignup_races.timing_partner_id IS 'A partner that can read it now (see race_owners); partner_races has all who see it.';

COMMENT ON COLUMN public.runsignup_races.name IS 'Name of the race.';

COMMENT ON COLUMN public.runsignup_races.description IS 'Description, HTML.';

COMMENT ON COLUMN public.runsignup_races.last_date IS 'First day of the last edition, the race''s calendar.';

COMMENT ON COLUMN public.runsignup_races.last_end_date IS 'Last day of the last edition, the race''s calendar.';

COMMENT ON COLUMN public.runsignup_races.next_date IS 'First day of the next edition, the race''s calendar; NULL when none is planned.';

COMMENT ON COLUMN public.runsignup_races.next_end_date IS 'Last day of the next edition, the race''s calendar.';

COMMENT ON COLUMN public.runsignup_races.created IS 'When the race was made at RunSignup, US Eastern wall time.';

COMMENT ON COLUMN public.runsignup_races.last_modified IS 'When the race record (not its participants) last changed, US Eastern wall time to the minute.';

COMMENT ON COLUMN public.runsignup_races.is_draft_race IS 'Whether it is a draft.';

COMMENT ON COLUMN public.runsignup_races.is_private_race IS 'Whether it is private.';

COMMENT ON COLUMN public.runsignup_races.is_registration_open IS 'Whether one can register now.';

COMMENT ON COLUMN public.runsignup_races.real_time_notifications_enabled IS 'Whether runners get result notices; nothing to do with webhooks.';

COMMENT ON COLUMN public.runsignup_races.url IS 'Page at RunSignup.';

COMMENT ON COLUMN public.runsignup_races.external_race_url IS 'The race''s own page.';

COMMENT ON COLUMN public.runsignup_races.external_results_url IS 'Page of results elsewhere.';

COMMENT ON COLUMN public.runsignup_races.logo_url IS 'Address of the logo.';

COMMENT ON COLUMN public.runsignup_races.fb_page_id IS 'Facebook page, digits.';

COMMENT ON COLUMN public.runsignup_races.fb_event_id IS 'Facebook event, digits.';

COMMENT ON COLUMN public.runsignup_races.timezone IS 'IANA zone of the race; the zone of its events'' start_time and end_time.';

COMMENT ON COLUMN public.runsignup_races.address IS 'street, street2, city, state, zipcode, country_code.';

COMMENT ON COLUMN public.runsignup_races.credentials_used IS 'Partition key of the partner whose credential read the row.';

COMMENT ON COLUMN public.runsignup_races.payload IS 'The race as RunSignup sent it, without its events.';

COMMENT ON COLUMN public.runsignup_races.detail_as_of IS 'The race''s last_modified when its full detail (all editions) was last read; NULL before.';

COMMENT ON COLUMN public.runsignup_races.fetched_date IS 'When the row last changed here, in the database''s zone.';

COMMENT ON COLUMN public.runsignup_races.created_at IS 'When the row was made, in the database''s zone.';

COMMENT ON COLUMN public.runsignup_races.detail_read_at IS 'When its full detail was last read, by RunSignup''s clock; NULL before.';

CREATE TABLE public.start_list_entries (
    timing_partner_id integer NOT NULL,
    registration_id bigint NOT NULL,
    event_id bigint NOT NULL,
    race_id bigint NOT NULL,
    bib text,
    bib_number bigint,
    first_name text,
    last_name text,
    age integer,
    gender text,
    city text,
    state text,
    team text,
    problems text[] NOT NULL,
    changed_at timestamp with time zone DEFAULT now() NOT NULL,
    bib_source text,
    CONSTRAINT start_list_entries_bib_source_check CHECK ((bib_source = ANY (ARRAY['registration'::text, 'team'::text, 'bundle'::text, 'local'::text])))
);

COMMENT ON TABLE public.start_list_entries IS 'One row: an entrant of an event that has a start list.';

COMMENT ON COLUMN public.start_list_entries.timing_partner_id IS 'The partner.';

COMMENT ON COLUMN public.start_list_entries.registration_id IS 'RunSignup''s number of the registration.';

COMMENT ON COLUMN public.start_list_entries.event_id IS 'The event.';

COMMENT ON COLUMN public.start_list_entries.race_id IS 'Its race.';

COMMENT ON COLUMN public.start_list_entries.bib IS 'Bib at RunSignup (the entrant''s, the team''s, else that of the bundle taken), else the one given here, without blanks around it; NULL for none.';

COMMENT ON COLUMN public.start_list_entries.bib_number IS 'The bib where it is a number, to order by; NULL else.';

COMMENT ON COLUMN public.start_list_entries.first_name IS 'First name.';

COMMENT ON COLUMN public.start_list_entries.last_name IS 'Last name.';

COMMENT ON COLUMN public.start_list_entries.age IS 'Age as RunSignup sent it; where it sent none, by the birth date on the event''s age_calc_base_date, else on race day. Born on 29 February: a year older on 1 March where there is no 29th.';

COMMENT ON COLUMN public.start_list_entries.gender IS 'M, F, X or NULL.';

COMMENT ON COLUMN public.start_list_entries.city IS 'Town.';

COMMENT ON COLUMN public.start_list_entries.state IS 'State.';

COMMENT ON COLUMN public.start_list_entries.team IS 'Name of the team; NULL for none.';

COMMENT ON COLUMN public.start_list_entries.problems IS 'no_bib, duplicate_bib, bib_in_other_event, out_of_range, in_two_events; empty when all is well.';

COMMENT ON COLUMN public.start_list_entries.changed_at IS 'When the row last came out different.';

COMMENT ON COLUMN public.start_list_entries.bib_source IS 'Where the bib is: registration; team: of the team at RunSignup; bundle: on the row of the bundle alone; local: given here. NULL for none.';

CREATE TABLE public.timing_partners (
    timing_partner_id integer NOT NULL,
    company_name character varying(255) NOT NULL,
    access_password character varying(255),
    partition_key text,
    disabled_at timestamp with time zone,
    created_at timestamp without time zone DEFAULT now(),
    updated_at timestamp without time zone DEFAULT now(),
    listing_number bigint DEFAULT 0 NOT NULL,
    include text,
    CONSTRAINT timing_partners_include_check CHECK (((include = ANY (ARRAY['all'::text, 'none'::text])) OR (include ~ '^(questions|addons|memberships|corrals|est_finish|checkin|coupons|corp_teams|notes)(,(questions|addons|memberships|corrals|est_finish|checkin|coupons|corp_teams|notes))*$'::text)))
);

COMMENT ON TABLE public.timing_partners IS 'One row: a timing company whose RunSignup races the hub keeps.';

COMMENT ON COLUMN public.timing_partners.timing_partner_id IS 'Number of the partner, also the head of its partition key.';

COMMENT ON COLUMN public.timing_partners.company_name IS 'Name of the company, as people write it.';

COMMENT ON COLUMN public.timing_partners.access_password IS 'Password of the partner at other programs of the hub; not used here.';

COMMENT ON COLUMN public.timing_partners.partition_key IS 'Key of the partner''s partition in Dagster: id and a slug of the name at onboarding. Never changed.';

COMMENT ON COLUMN public.timing_partners.disabled_at IS 'When an operator switched the partner off; NULL while it is synced.';

COMMENT ON COLUMN public.timing_partners.created_at IS 'When the row was made, in the database''s zone.';

COMMENT ON COLUMN public.timing_partners.updated_at IS 'When the row was last changed, in the database''s zone.';

COMMENT ON COLUMN public.timing_partners.listing_number IS 'Number of the last complete read of its races and events (see read_passes).';

COMMENT ON COLUMN public.timing_partners.include IS 'Optional fields requested for this partner, such as questions,corrals, or none; NULL: those of RSU_INCLUDE.';

CREATE VIEW public.partner_entrants AS
 SELECT p.timing_partner_id,
    t.company_name AS partner,
    p.race_id,
    r.name AS race,
    p.event_id,
    e.name AS event,
    e.event_type,
    e.distance_text AS distance,
    e.starts_at,
    e.start_time AS start_local,
    r.timezone,
    p.registration_id,
    p.user_id,
    COALESCE(b.own, b.team, b.bundle, b.local) AS bib,
        CASE
            WHEN (b.own IS NOT NULL) THEN 'registration'::text
            WHEN (b.team IS NOT NULL) THEN 'team'::text
            WHEN (b.bundle IS NOT NULL) THEN 'bundle'::text
            WHEN (b.local IS NOT NULL) THEN 'local'::text
            ELSE NULL::text
        END AS bib_source,
    p.chip_num AS chip,
    NULLIF(concat_ws(' '::text, p.first_name, p.last_name), ''::text) AS name,
    p.first_name,
    p.last_name,
    COALESCE(p.age,
        CASE
            WHEN (p.dob <= d.age_day) THEN (((to_char((d.age_day)::timestamp with time zone, 'YYYYMMDD'::text))::integer - (to_char((p.dob)::timestamp with time zone, 'YYYYMMDD'::text))::integer) / 10000)
            ELSE NULL::integer
        END) AS age,
    p.gender,
    (p.address ->> 'city'::text) AS city,
    (p.address ->> 'state'::text) AS state,
    (p.address ->> 'country_code'::text) AS country,
    (p.team_info ->> 'team_name'::text) AS team,
    (p.team_info ->> 'team_type'::text) AS team_type,
    p.corral,
    p.wave,
    p.estimated_finish,
    p.checked_in_at,
    p.registered_at,
    p.registration_date AS registered_local,
    m.race_fee,
    m.extra_fees,
    m.processing_fee,
    m.processing_fee_paid_by_user,
    m.processing_fee_paid_by_race,
    m.partner_fee,
    m.affiliate_profit,
    m.offline_payment_amount,
    m.amount_paid,
    COALESCE(jsonb_path_exists(p.payment_info, '$.*?(@.type() == "string")'::jsonpath), false) AS has_other_currency,
        CASE
            WHEN (p.removed_at IS NULL) THEN 'active'::text
            ELSE 'removed'::text
        END AS status,
    p.removed_reason,
    p.removed_at,
    p.new_registration_id,
    to_timestamp((p.last_modified_epoch)::double precision) AS modified_at,
    p.first_seen_at,
    p.changed_at
   FROM (((((((public.runsignup_participants p
     JOIN public.timing_partners t ON ((t.timing_partner_id = p.timing_partner_id)))
     JOIN public.runsignup_races r ON ((r.race_id = p.race_id)))
     JOIN public.runsignup_events e ON ((e.event_id = p.event_id)))
     LEFT JOIN public.start_list_entries s ON (((s.timing_partner_id = p.timing_partner_id) AND (s.registration_id = p.registration_id) AND (s.bib_source = 'bundle'::text))))
     CROSS JOIN LATERAL ( SELECT COALESCE(e.age_calc_base_date, (e.start_time)::date) AS age_day) d)
     CROSS JOIN LATERAL ( SELECT NULLIF(btrim(p.bib_num, ' 	
'::text), ''::text) AS own,
            public.rsu_bib(NULL::text, p.team_info) AS team,
            s.bib AS bundle,
            NULLIF(btrim(p.local_bib, ' 	
'::text), ''::text) AS local) b)
     CROSS JOIN LATERAL ( SELECT
                CASE
                    WHEN (jsonb_typeof((p.payment_info -> 'race_fee'::text)) = 'number'::text) THEN ((p.payment_info ->> 'race_fee'::text))::numeric
                    ELSE NULL::numeric
                END AS race_fee,
                CASE
                    WHEN (jsonb_typeof((p.payment_info -> 'extra_fees'::text)) = 'number'::text) THEN ((p.payment_info ->> 'extra_fees'::text))::numeric
                    ELSE NULL::numeric
                END AS extra_fees,
                CASE
                    WHEN (jsonb_typeof((p.payment_info -> 'processing_fee'::text)) = 'number'::text) THEN ((p.payment_info ->> 'processing_fee'::text))::numeric
                    ELSE NULL::numeric
                END AS processing_fee,
                CASE
                    WHEN (jsonb_typeof((p.payment_info -> 'processing_fee_paid_by_user'::text)) = 'number'::text) THEN ((p.payment_info ->> 'processing_fee_paid_by_user'::text))::numeric
                    ELSE NULL::numeric
                END AS processing_fee_paid_by_user,
                CASE
                    WHEN (jsonb_typeof((p.payment_info -> 'processing_fee_paid_by_race'::text)) = 'number'::text) THEN ((p.payment_info ->> 'processing_fee_paid_by_race'::text))::numeric
                    ELSE NULL::numeric
                END AS processing_fee_paid_by_race,
                CASE
                    WHEN (jsonb_typeof((p.payment_info -> 'partner_fee'::text)) = 'number'::text) THEN ((p.payment_info ->> 'partner_fee'::text))::numeric
                    ELSE NULL::numeric
                END AS partner_fee,
                CASE
                    WHEN (jsonb_typeof((p.payment_info -> 'affiliate_profit'::text)) = 'number'::text) THEN ((p.payment_info ->> 'affiliate_profit'::text))::numeric
                    ELSE NULL::numeric
                END AS affiliate_profit,
                CASE
                    WHEN (jsonb_typeof((p.payment_info -> 'offline_payment_amount'::text)) = 'number'::text) THEN ((p.payment_info ->> 'offline_payment_amount'::text))::numeric
                    ELSE NULL::numeric
                END AS offline_payment_amount,
                CASE
                    WHEN (jsonb_typeof((p.payment_info -> 'amount_paid'::text)) = 'number'::text) THEN ((p.payment_info ->> 'amount_paid'::text))::numeric
                    ELSE NULL::numeric
                END AS amount_paid) m);

COMMENT ON VIEW public.partner_entrants IS 'One row: a registration, active or removed, as one partner''s credential sees it, with race, event and partner, without contact data. A race of two partners is there twice.';

COMMENT ON COLUMN public.partner_entrants.timing_partner_id IS 'The partner whose credential read it.';

COMMENT ON COLUMN public.partner_entrants.partner IS 'Name of the partner.';

COMMENT ON COLUMN public.partner_entrants.race_id IS 'RunSignup''s number of the race.';

COMMENT ON COLUMN public.partner_entrants.race IS 'Name of the race.';

COMMENT ON COLUMN public.partner_entrants.event_id IS 'RunSignup''s number of the event.';

COMMENT ON COLUMN public.partner_entrants.event IS 'Name of the event.';

COMMENT ON COLUMN public.partner_entrants.event_type IS 'RunSignup''s word for the kind of event; an open set.';

COMMENT ON COLUMN public.partner_entrants.distance IS 'Distance with its unit, as RunSignup has it.';

COMMENT ON COLUMN public.partner_entrants.starts_at IS 'Start of the event, as an instant. NULL if unknown.';

COMMENT ON COLUMN public.partner_entrants.start_local IS 'Start of the event, wall time in the race''s zone.';

COMMENT ON COLUMN public.partner_entrants.timezone IS 'IANA zone of the race.';

COMMENT ON COLUMN public.partner_entrants.registration_id IS 'RunSignup''s number of the registration: with the partner, the identity of the row.';

COMMENT ON COLUMN public.partner_entrants.user_id IS 'RunSignup account of the person; one may have several registrations.';

COMMENT ON COLUMN public.partner_entrants.bib IS 'The bib that counts: of the registration, else of its team, else of the bundle taken, else the one given here. NULL for none.';

COMMENT ON COLUMN public.partner_entrants.bib_source IS 'Where the bib is: registration, team, bundle (of events that have a start list) or local. NULL for none.';

COMMENT ON COLUMN public.partner_entrants.chip IS 'Chip at RunSignup.';

COMMENT ON COLUMN public.partner_entrants.name IS 'First and last name.';

COMMENT ON COLUMN public.partner_entrants.first_name IS 'First name, as sent.';

COMMENT ON COLUMN public.partner_entrants.last_name IS 'Last name, as sent.';

COMMENT ON COLUMN public.partner_entrants.age IS 'Age on the day of the event: as RunSignup sent it, else by the birth date on the day on which ages count.';

COMMENT ON COLUMN public.partner_entrants.gender IS 'M, F, X or NULL.';

COMMENT ON COLUMN public.partner_entrants.city IS 'Town.';

COMMENT ON COLUMN public.partner_entrants.state IS 'State.';

COMMENT ON COLUMN public.partner_entrants.country IS 'Country, two letters.';

COMMENT ON COLUMN public.partner_entrants.team IS 'Name of the team; NULL for none.';

COMMENT ON COLUMN public.partner_entrants.team_type IS 'Kind of the team, as RunSignup names it.';

COMMENT ON COLUMN public.partner_entrants.corral IS 'Corral; NULL unless requested with corrals.';

COMMENT ON COLUMN public.partner_entrants.wave IS 'Wave; NULL unless requested with corrals.';

COMMENT ON COLUMN public.partner_entrants.estimated_finish IS 'Time in which the entrant expects to finish; NULL unless requested with est_finish.';

COMMENT ON COLUMN public.partner_entrants.checked_in_at IS 'When the entrant was checked in; NULL before, and unless requested with checkin.';

COMMENT ON COLUMN public.partner_entrants.registered_at IS 'When the person registered, as an instant.';

COMMENT ON COLUMN public.partner_entrants.registered_local IS 'When the person registered, US Eastern wall time.';

COMMENT ON COLUMN public.partner_entrants.race_fee IS 'Fee of the race, US dollars. NULL, not 0, if RunSignup sent none.';

COMMENT ON COLUMN public.partner_entrants.extra_fees IS 'Further fees, US dollars.';

COMMENT ON COLUMN public.partner_entrants.processing_fee IS 'Processing fee, US dollars.';

COMMENT ON COLUMN public.partner_entrants.processing_fee_paid_by_user IS 'Part of the processing fee that the entrant paid, US dollars.';

COMMENT ON COLUMN public.partner_entrants.processing_fee_paid_by_race IS 'Part of the processing fee that the race paid, US dollars.';

COMMENT ON COLUMN public.partner_entrants.partner_fee IS 'Fee of a partner of RunSignup, US dollars.';

COMMENT ON COLUMN public.partner_entrants.affiliate_profit IS 'Share of an affiliate, US dollars.';

COMMENT ON COLUMN public.partner_entrants.offline_payment_amount IS 'Amount paid outside RunSignup, US dollars.';

COMMENT ON COLUMN public.partner_entrants.amount_paid IS 'Amount paid, US dollars.';

COMMENT ON COLUMN public.partner_entrants.has_other_currency IS 'Whether an amount is in another currency. It is NULL here, and as text in runsignup_participants.payment_info.';

COMMENT ON COLUMN public.partner_entrants.status IS 'active or removed.';

COMMENT ON COLUMN public.partner_entrants.removed_reason IS 'Why it was removed, as in runsignup_participants; NULL while active.';

COMMENT ON COLUMN public.partner_entrants.removed_at IS 'When it was removed, or when that was noticed; NULL while active.';

COMMENT ON COLUMN public.partner_entrants.new_registration_id IS 'The registration that a transferred one became.';

COMMENT ON COLUMN public.partner_entrants.modified_at IS 'When RunSignup last changed the registration.';

COMMENT ON COLUMN public.partner_entrants.first_seen_at IS 'When the registration was first stored.';

COMMENT ON COLUMN public.partner_entrants.changed_at IS 'When its content last changed here. What is read since a moment is found by it.';

CREATE TABLE public.partner_provider_credentials (
    partner_provider_credential_id integer NOT NULL,
    provider_id integer NOT NULL,
    timing_partner_id integer NOT NULL,
    principal text,
    secret text,
    credential_type character varying(50),
    additional_config jsonb,
    verified_at timestamp with time zone,
    rejected_at timestamp with time zone,
    rejected_reason text,
    entered_at timestamp with time zone DEFAULT now() NOT NULL,
    created_at timestamp without time zone DEFAULT now(),
    updated_at timestamp without time zone DEFAULT now(),
    api_key_id integer,
    shares_api_key boolean DEFAULT false NOT NULL
);

COMMENT ON TABLE public.partner_provider_credentials IS 'One row: a partner''s access to a provider.';

COMMENT ON COLUMN public.partner_provider_credentials.partner_provider_credential_id IS 'Number of the credential.';

COMMENT ON COLUMN public.partner_provider_credentials.provider_id IS 'The provider it opens.';

COMMENT ON COLUMN public.partner_provider_credentials.timing_partner_id IS 'The partner it belongs to.';

COMMENT ON COLUMN public.partner_provider_credentials.principal IS 'API key. May be inserted in clear; the hub encrypts it (sealed:...) within half a minute.';

COMMENT ON COLUMN public.partner_provider_credentials.secret IS 'API secret. May be inserted in clear; the hub encrypts it (sealed:...) within half a minute.';

COMMENT ON COLUMN public.partner_provider_credentials.credential_type IS 'api_key (default), or rsu_api_key / sp_api_key, whose secret travels in a header.';

COMMENT ON COLUMN public.partner_provider_credentials.additional_config IS 'Settings of other programs; not used here.';

COMMENT ON COLUMN public.partner_provider_credentials.verified_at IS 'When access to a race was last proved with this credential.';

COMMENT ON COLUMN public.partner_provider_credentials.rejected_at IS 'When RunSignup refused it; cleared by a new key or a later success.';

COMMENT ON COLUMN public.partner_provider_credentials.rejected_reason IS 'RunSignup''s message when it rejected the credential.';

COMMENT ON COLUMN public.partner_provider_credentials.entered_at IS 'When the present key and secret were entered; a first sync follows.';

COMMENT ON COLUMN public.partner_provider_credentials.created_at IS 'When the row was made, in the database''s zone.';

COMMENT ON COLUMN public.partner_provider_credentials.updated_at IS 'When the row was last changed, in the database''s zone.';

COMMENT ON COLUMN public.partner_provider_credentials.api_key_id IS 'The API key in principal. NULL until it is encrypted.';

COMMENT ON COLUMN public.partner_provider_credentials.shares_api_key IS 'Whether another partner is meant to have the same API key. False again when the API key changes.';

CREATE TABLE public.partner_races (
    timing_partner_id integer NOT NULL,
    race_id bigint NOT NULL,
    listed_at timestamp with time zone DEFAULT now() NOT NULL,
    unlisted_at timestamp with time zone,
    access text DEFAULT 'unknown'::text NOT NULL,
    access_changed_at timestamp with time zone,
    lost_at timestamp with time zone,
    lost_reason text,
    check_at timestamp with time zone,
    CONSTRAINT partner_races_access_check CHECK ((access = ANY (ARRAY['unknown'::text, 'granted'::text, 'denied'::text, 'not_found'::text]))),
    CONSTRAINT partner_races_lost_reason_check CHECK ((lost_reason = ANY (ARRAY['race_deleted'::text, 'access_lost'::text])))
);

COMMENT ON TABLE public.partner_races IS 'One row: a race that a partner''s credential sees. A race can belong to two partners.';

COMMENT ON COLUMN public.partner_races.timing_partner_id IS 'The partner.';

COMMENT ON COLUMN public.partner_races.race_id IS 'The race.';

COMMENT ON COLUMN public.partner_races.listed_at IS 'When RunSignup first listed the race for the partner.';

COMMENT ON COLUMN public.partner_races.unlisted_at IS 'When a complete listing no longer had it; NULL while listed. It is read until it is lost.';

COMMENT ON COLUMN public.partner_races.access IS 'What RunSignup answered when its participants were last requested: granted; denied; not_found: it has no such race; unknown: never requested.';

COMMENT ON COLUMN public.partner_races.access_changed_at IS 'When access last changed: of a refused race, when it was first refused.';

COMMENT ON COLUMN public.partner_races.lost_at IS 'When it was confirmed that the partner cannot read it any more; NULL while it can. Its registrations are then removed, and it is no longer due.';

COMMENT ON COLUMN public.partner_races.lost_reason IS 'race_deleted: RunSignup has no such race. access_lost: it refuses this partner. NULL while it is not lost.';

COMMENT ON COLUMN public.partner_races.check_at IS 'Of a race that is lost or unlisted: when a listing asks RunSignup for it next; NULL: at the next one.';

CREATE TABLE public.providers (
    provider_id integer NOT NULL,
    name character varying(100) NOT NULL,
    provider_type character varying(50),
    api_base_url character varying(255),
    rate_limit_per_hour integer DEFAULT 1000,
    created_at timestamp without time zone DEFAULT now()
);

COMMENT ON TABLE public.providers IS 'One row: a registration service. RunSignup is found by name, since its number differs between installations.';

COMMENT ON COLUMN public.providers.provider_id IS 'Number of the provider in this installation.';

COMMENT ON COLUMN public.providers.name IS 'Name of the provider; compared without regard to case.';

COMMENT ON COLUMN public.providers.provider_type IS 'Kind of service.';

COMMENT ON COLUMN public.providers.api_base_url IS 'Base address for other programs; this pipeline uses RSU_API_BASE_URL.';

COMMENT ON COLUMN public.providers.rate_limit_per_hour IS 'Calls an hour for other programs; this pipeline uses RSU_CALLS_PER_HOUR.';

COMMENT ON COLUMN public.providers.created_at IS 'When the row was made, in the database''s zone.';

CREATE VIEW public.race_owners AS
 SELECT DISTINCT ON (l.race_id) l.race_id,
    l.timing_partner_id
   FROM (((public.partner_races l
     JOIN public.timing_partners t ON ((t.timing_partner_id = l.timing_partner_id)))
     JOIN public.runsignup_races r ON ((r.race_id = l.race_id)))
     LEFT JOIN ( SELECT c_1.timing_partner_id,
            c_1.rejected_at
           FROM (public.partner_provider_credentials c_1
             JOIN public.providers v USING (provider_id))
          WHERE (lower((v.name)::text) = 'runsignup'::text)) c ON ((c.timing_partner_id = l.timing_partner_id)))
  WHERE (l.lost_at IS NULL)
  ORDER BY l.race_id, ((l.access = 'granted'::text) AND (t.disabled_at IS NULL) AND (c.rejected_at IS NULL)) DESC, (l.access = 'granted'::text) DESC, (l.access = 'unknown'::text) DESC, (l.unlisted_at IS NULL) DESC, ((l.timing_partner_id = r.timing_partner_id) IS TRUE) DESC, l.timing_partner_id;

COMMENT ON VIEW public.race_owners IS 'One row: a race and the one partner whose registrations of it the unified views show. Races that nobody can read any more have none.';

CREATE VIEW public.entrants AS
 SELECT p.timing_partner_id,
    p.partner,
    p.race_id,
    p.race,
    p.event_id,
    p.event,
    p.event_type,
    p.distance,
    p.starts_at,
    p.start_local,
    p.timezone,
    p.registration_id,
    p.user_id,
    p.bib,
    p.bib_source,
    p.chip,
    p.name,
    p.first_name,
    p.last_name,
    p.age,
    p.gender,
    p.city,
    p.state,
    p.country,
    p.team,
    p.team_type,
    p.corral,
    p.wave,
    p.estimated_finish,
    p.checked_in_at,
    p.registered_at,
    p.registered_local,
    p.race_fee,
    p.extra_fees,
    p.processing_fee,
    p.processing_fee_paid_by_user,
    p.processing_fee_paid_by_race,
    p.partner_fee,
    p.affiliate_profit,
    p.offline_payment_amount,
    p.amount_paid,
    p.has_other_currency,
    p.status,
    p.removed_reason,
    p.removed_at,
    p.new_registration_id,
    p.modified_at,
    p.first_seen_at,
    p.changed_at
   FROM ((public.partner_entrants p
     JOIN public.runsignup_races r ON ((r.race_id = p.race_id)))
     LEFT JOIN public.race_owners o ON ((o.race_id = p.race_id)))
  WHERE (p.timing_partner_id = COALESCE(o.timing_partner_id, r.timing_partner_id));

COMMENT ON VIEW public.entrants IS 'One row: a registration, active or removed, once, with race, event and partner, without contact data. The columns of partner_entrants.';

CREATE TABLE public.erased_registrations (
    erased_registration_id bigint NOT NULL,
    registration_id bigint NOT NULL,
    timing_partner_id integer,
    erased_at timestamp with time zone DEFAULT now() NOT NULL,
    erased_user_id bigint,
    user_id bigint,
    via_transfer boolean DEFAULT false NOT NULL
);

COMMENT ON TABLE public.erased_registrations IS 'One row: a registration that is stored without the person, whatever RunSignup sends of it.';

COMMENT ON COLUMN public.erased_registrations.erased_registration_id IS 'Number of the row.';

COMMENT ON COLUMN public.erased_registrations.registration_id IS 'RunSignup''s number of the registration.';

COMMENT ON COLUMN public.erased_registrations.timing_partner_id IS 'The partner for whom it was erased; NULL for all.';

COMMENT ON COLUMN public.erased_registrations.erased_at IS 'When.';

COMMENT ON COLUMN public.erased_registrations.erased_user_id IS 'The erased account that it belongs to; NULL where it was erased alone.';

COMMENT ON COLUMN public.erased_registrations.user_id IS 'RunSignup''s number of the account that it had, to distinguish the person from another who took over the place.';

COMMENT ON COLUMN public.erased_registrations.via_transfer IS 'true: an erased registration became this one by a transfer, and it is not known yet whether for the same person.';

CREATE SEQUENCE public.erased_registrations_erased_registration_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.erased_registrations_erased_registration_id_seq OWNED BY public.erased_registrations.erased_registration_id;

CREATE TABLE public.erased_users (
    erased_user_id bigint NOT NULL,
    user_id bigint NOT NULL,
    timing_partner_id integer,
    erased_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE public.erased_users IS 'One row: a RunSignup account whose registrations up to then are stored without the person.';

COMMENT ON COLUMN public.erased_users.erased_user_id IS 'Number of the row.';

COMMENT ON COLUMN public.erased_users.user_id IS 'RunSignup''s number of the account; what is needed to know it again, and nothing else of the person.';

COMMENT ON COLUMN public.erased_users.timing_partner_id IS 'The partner for whom it was erased; NULL for all.';

COMMENT ON COLUMN public.erased_users.erased_at IS 'When. A registration made later is a new one, and kept as any other.';

CREATE SEQUENCE public.erased_users_erased_user_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.erased_users_erased_user_id_seq OWNED BY public.erased_users.erased_user_id;

CREATE TABLE public.event_cursors (
    timing_partner_id integer NOT NULL,
    event_id bigint NOT NULL,
    race_id bigint NOT NULL,
    modified_after bigint NOT NULL,
    removed_after bigint NOT NULL,
    first_loaded_at timestamp with time zone NOT NULL,
    last_full_at timestamp with time zone NOT NULL,
    last_read_at timestamp with time zone NOT NULL,
    needs_full text,
    registrations integer DEFAULT 0 NOT NULL,
    read_rows integer,
    read_hash numeric,
    stored_rows integer,
    stored_hash numeric,
    compared_at timestamp with time zone,
    proved_equal_at timestamp with time zone,
    read_number bigint DEFAULT 0 NOT NULL,
    full_read_number bigint DEFAULT 0 NOT NULL,
    included text DEFAULT 'none'::text NOT NULL
);

COMMENT ON TABLE public.event_cursors IS 'One row: how far a partner''s copy of an event reaches. Made when its first full read is complete.';

COMMENT ON COLUMN public.event_cursors.timing_partner_id IS 'The partner.';

COMMENT ON COLUMN public.event_cursors.event_id IS 'The event.';

COMMENT ON COLUMN public.event_cursors.race_id IS 'Its race.';

COMMENT ON COLUMN public.event_cursors.modified_after IS 'Cursor of the next incremental read, Unix seconds: first page of the last complete pass by the earliest of the clocks that agree, less an overlap.';

COMMENT ON COLUMN public.event_cursors.removed_after IS 'The same for removed registrations, which are requested less often.';

COMMENT ON COLUMN public.event_cursors.first_loaded_at IS 'When the first full read was complete; bibs set from here on are logged.';

COMMENT ON COLUMN public.event_cursors.last_full_at IS 'When the first page of the last complete full read was read, the earliest that the clocks allow.';

COMMENT ON COLUMN public.event_cursors.last_read_at IS 'When the first page of the last complete pass was read, full or incremental, the earliest that the clocks allow.';

COMMENT ON COLUMN public.event_cursors.needs_full IS 'Why the next read must be full; NULL when it need not.';

COMMENT ON COLUMN public.event_cursors.registrations IS 'Active registrations after the last complete full read.';

COMMENT ON COLUMN public.event_cursors.read_rows IS 'Active registrations that the last complete full read was sent, including those quarantined.';

COMMENT ON COLUMN public.event_cursors.read_hash IS 'Sum of the row hashes of what it was sent; the order does not matter.';

COMMENT ON COLUMN public.event_cursors.stored_rows IS 'Active registrations stored when it was complete.';

COMMENT ON COLUMN public.event_cursors.stored_hash IS 'Sum of the row hashes of what was stored then.';

COMMENT ON COLUMN public.event_cursors.compared_at IS 'When the two were last compared.';

COMMENT ON COLUMN public.event_cursors.proved_equal_at IS 'When the two were last found equal.';

COMMENT ON COLUMN public.event_cursors.read_number IS 'Number of the last complete read, removals included (see read_passes). A sync requested before it began need not read the event again.';

COMMENT ON COLUMN public.event_cursors.full_read_number IS 'Number of the last complete full read whose end was shown.';

COMMENT ON COLUMN public.event_cursors.included IS 'Optional fields that the last full read requested. If others are requested now, the event is read in full once.';

CREATE TABLE public.failing_notifiers (
    "position" integer NOT NULL,
    scheme text NOT NULL,
    failing_since timestamp with time zone NOT NULL,
    tried_at timestamp with time zone NOT NULL,
    tries integer NOT NULL
);

COMMENT ON TABLE public.failing_notifiers IS 'Services of RSU_ALERT_URLS that did not accept the last message. A row goes when one is accepted.';

COMMENT ON COLUMN public.failing_notifiers."position" IS 'Which one of RSU_ALERT_URLS, counted from 1. Addresses are secrets and are not stored.';

COMMENT ON COLUMN public.failing_notifiers.scheme IS 'Kind of service, as in its address before "://".';

COMMENT ON COLUMN public.failing_notifiers.failing_since IS 'When it first did not accept a message.';

COMMENT ON COLUMN public.failing_notifiers.tried_at IS 'When it was last sent a message.';

COMMENT ON COLUMN public.failing_notifiers.tries IS 'Messages in a row that it did not accept.';

CREATE TABLE public.foreign_writes (
    foreign_write_id bigint NOT NULL,
    seen_on date NOT NULL,
    table_name text NOT NULL,
    operation text NOT NULL,
    login text NOT NULL,
    program text NOT NULL,
    address text NOT NULL,
    transactions bigint DEFAULT 1 NOT NULL,
    first_at timestamp with time zone NOT NULL,
    last_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE public.foreign_writes IS 'One row: another program''s writes of one kind to a table of the hub, on one day.';

COMMENT ON COLUMN public.foreign_writes.foreign_write_id IS 'Number of the row.';

COMMENT ON COLUMN public.foreign_writes.seen_on IS 'The day, UTC.';

COMMENT ON COLUMN public.foreign_writes.table_name IS 'The table that was written to.';

COMMENT ON COLUMN public.foreign_writes.operation IS 'INSERT, UPDATE, DELETE or TRUNCATE.';

COMMENT ON COLUMN public.foreign_writes.login IS 'The role that logged in.';

COMMENT ON COLUMN public.foreign_writes.program IS 'The session''s application_name; empty if it has none.';

COMMENT ON COLUMN public.foreign_writes.address IS 'Where it connected from; local for a socket.';

COMMENT ON COLUMN public.foreign_writes.transactions IS 'Transactions that did so on that day.';

COMMENT ON COLUMN public.foreign_writes.first_at IS 'The first of them.';

COMMENT ON COLUMN public.foreign_writes.last_at IS 'The last of them. An upcoming event that was last read in full before is read in full again.';

CREATE SEQUENCE public.foreign_writes_foreign_write_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.foreign_writes_foreign_write_id_seq OWNED BY public.foreign_writes.foreign_write_id;

CREATE TABLE public.future_events (
    timing_partner_id integer NOT NULL,
    event_id bigint NOT NULL,
    race_id bigint NOT NULL,
    tier text NOT NULL,
    starts_at timestamp with time zone,
    over_at timestamp with time zone,
    next_read text NOT NULL,
    reason text NOT NULL,
    planned_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE public.future_events IS 'One row: an event that still needs syncing, and what its next read will be. Rewritten at each sync.';

COMMENT ON COLUMN public.future_events.timing_partner_id IS 'The partner.';

COMMENT ON COLUMN public.future_events.event_id IS 'The event.';

COMMENT ON COLUMN public.future_events.race_id IS 'Its race.';

COMMENT ON COLUMN public.future_events.tier IS 'How near it is: undated, later (over 24 h), day (24 to 4 h), window (4 h before the start until it is over), over (its closing reads are due).';

COMMENT ON COLUMN public.future_events.starts_at IS 'Start, as an instant; NULL when RunSignup has none.';

COMMENT ON COLUMN public.future_events.over_at IS 'When it is over; it stays due until a full read that began later has succeeded. NULL for an undated event.';

COMMENT ON COLUMN public.future_events.next_read IS 'full or incremental.';

COMMENT ON COLUMN public.future_events.reason IS 'Why the next read is that.';

COMMENT ON COLUMN public.future_events.planned_at IS 'When this was decided.';

CREATE TABLE public.history_events (
    timing_partner_id integer NOT NULL,
    event_id bigint NOT NULL,
    state text NOT NULL,
    reason text,
    behind boolean DEFAULT false NOT NULL,
    read_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT history_events_state_check CHECK ((state = ANY (ARRAY['loaded'::text, 'empty'::text, 'unavailable'::text, 'unconfirmed'::text])))
);

COMMENT ON TABLE public.history_events IS 'One row: a past event that was read, or that RunSignup no longer gives out.';

COMMENT ON COLUMN public.history_events.timing_partner_id IS 'The partner.';

COMMENT ON COLUMN public.history_events.event_id IS 'The event.';

COMMENT ON COLUMN public.history_events.state IS 'loaded; empty: RunSignup answered with no registration; unconfirmed: an empty answer is the only evidence that nothing more follows, and it is read again an hour later; unavailable: RunSignup refuses this edition, more than a year old.';

COMMENT ON COLUMN public.history_events.reason IS 'RunSignup''s message for one that is unavailable.';

COMMENT ON COLUMN public.history_events.behind IS 'true: its read was interrupted, and what changed on the first pages meanwhile is not in yet.';

COMMENT ON COLUMN public.history_events.read_at IS 'When that was found.';

CREATE TABLE public.history_races (
    timing_partner_id integer NOT NULL,
    race_id bigint NOT NULL,
    detail_read_at timestamp with time zone,
    failures integer DEFAULT 0 NOT NULL,
    error text,
    retry_at timestamp with time zone
);

COMMENT ON TABLE public.history_races IS 'One row: a race whose past editions were looked up for a partner.';

COMMENT ON COLUMN public.history_races.timing_partner_id IS 'The partner.';

COMMENT ON COLUMN public.history_races.race_id IS 'The race.';

COMMENT ON COLUMN public.history_races.detail_read_at IS 'When its editions were last looked up; NULL when that never worked.';

COMMENT ON COLUMN public.history_races.failures IS 'Times in a row that it failed.';

COMMENT ON COLUMN public.history_races.error IS 'How it failed last; NULL when it did not.';

COMMENT ON COLUMN public.history_races.retry_at IS 'When it is tried again, after a failure or to confirm an empty answer; NULL for at once.';

CREATE TABLE public.history_requests (
    timing_partner_id integer NOT NULL,
    since_year integer,
    requested_at timestamp with time zone DEFAULT now() NOT NULL,
    anew_from timestamp with time zone,
    listed_at timestamp with time zone,
    not_before timestamp with time zone DEFAULT now() NOT NULL,
    slices integer DEFAULT 0 NOT NULL,
    finished_at timestamp with time zone,
    last_requested_at timestamp with time zone DEFAULT now() NOT NULL,
    run_id text,
    backfill_id text,
    cancelled_at timestamp with time zone
);

COMMENT ON TABLE public.history_requests IS 'One row: a partner whose past editions were requested.';

COMMENT ON COLUMN public.history_requests.timing_partner_id IS 'The partner.';

COMMENT ON COLUMN public.history_requests.since_year IS 'Events that started in an earlier year (their own calendar) are left out; NULL: all.';

COMMENT ON COLUMN public.history_requests.requested_at IS 'When it was requested.';

COMMENT ON COLUMN public.history_requests.anew_from IS 'What was read before this moment is read again; NULL: what was read stays.';

COMMENT ON COLUMN public.history_requests.listed_at IS 'When the partner''s races were listed for it; NULL before.';

COMMENT ON COLUMN public.history_requests.not_before IS 'When the next slice may begin: when calls are free again, or a race that failed may be retried.';

COMMENT ON COLUMN public.history_requests.slices IS 'Slices begun since it was requested.';

COMMENT ON COLUMN public.history_requests.finished_at IS 'When nothing was left to read; NULL until then.';

COMMENT ON COLUMN public.history_requests.last_requested_at IS 'When it was last requested. A cancellation before that is of an earlier request.';

COMMENT ON COLUMN public.history_requests.run_id IS 'The run that requested it last; NULL for a request from a shell.';

COMMENT ON COLUMN public.history_requests.backfill_id IS 'Dagster''s number of the backfill that asked last; NULL where none did.';

COMMENT ON COLUMN public.history_requests.cancelled_at IS 'When a person cancelled it; NULL while it is wanted. Asking again clears it.';

CREATE TABLE public.hub_clocks (
    hub text NOT NULL,
    observed_at timestamp with time zone NOT NULL,
    runsignup_seconds double precision,
    database_seconds double precision NOT NULL
);

COMMENT ON TABLE public.hub_clocks IS 'One row: the clock of a machine on which the hub runs, as last compared with RunSignup''s and the database''s.';

COMMENT ON COLUMN public.hub_clocks.hub IS 'The machine''s name.';

COMMENT ON COLUMN public.hub_clocks.observed_at IS 'When the clocks were compared, by the database''s.';

COMMENT ON COLUMN public.hub_clocks.runsignup_seconds IS 'Seconds that RunSignup''s clock was ahead of the hub''s; negative for behind, NULL where its answers had no usable Date.';

COMMENT ON COLUMN public.hub_clocks.database_seconds IS 'Seconds that the database''s clock was ahead of the hub''s; negative for behind.';

CREATE VIEW public.participant_addons AS
 SELECT p.timing_partner_id,
    p.race_id,
    p.event_id,
    p.registration_id,
    (a."position")::integer AS "position",
    a.addon_id,
    a.addon,
    a.quantity,
    a.amount,
    p.removed_at
   FROM (public.runsignup_participants p
     CROSS JOIN LATERAL ROWS FROM(jsonb_to_recordset(p.addons) AS (addon_id bigint, addon text, quantity numeric, amount numeric)) WITH ORDINALITY a(addon_id, addon, quantity, amount, "position"));

COMMENT ON VIEW public.participant_addons IS 'One row: an add-on that was bought with a registration.';

CREATE VIEW public.participant_answers AS
 SELECT p.timing_partner_id,
    p.race_id,
    p.event_id,
    p.registration_id,
    (a."position")::integer AS "position",
    a.question_id,
    a.question,
    a.answer,
    p.removed_at
   FROM (public.runsignup_participants p
     CROSS JOIN LATERAL ROWS FROM(json_to_recordset(p.answers) AS (question_id bigint, question text, answer text)) WITH ORDINALITY a(question_id, question, answer, "position"));

COMMENT ON VIEW public.participant_answers IS 'One row: an answer to a question of a registration. A question with several answers has several rows.';

CREATE VIEW public.participant_memberships AS
 SELECT p.timing_partner_id,
    p.race_id,
    p.event_id,
    p.registration_id,
    (m."position")::integer AS "position",
    m.membership_id,
    m.membership,
    m.member_number,
    m.expires_on,
    m.price_adjustment,
    p.removed_at
   FROM (public.runsignup_participants p
     CROSS JOIN LATERAL ROWS FROM(jsonb_to_recordset(p.memberships) AS (membership_id bigint, membership text, member_number text, expires_on date, price_adjustment numeric)) WITH ORDINALITY m(membership_id, membership, member_number, expires_on, price_adjustment, "position"));

COMMENT ON VIEW public.participant_memberships IS 'One row: a membership that an entrant gave for a registration.';

CREATE SEQUENCE public.partner_provider_credentials_partner_provider_credential_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.partner_provider_credentials_partner_provider_credential_id_seq OWNED BY public.partner_provider_credentials.partner_provider_credential_id;

CREATE TABLE public.pass_counts (
    timing_partner_id integer NOT NULL,
    race_id bigint NOT NULL,
    mode text NOT NULL,
    event_id bigint NOT NULL,
    rows integer NOT NULL,
    hash numeric NOT NULL
);

COMMENT ON TABLE public.pass_counts IS 'One row: what RunSignup last answered of an event, as far as a full pass under way has come; gone with its pass.';

COMMENT ON COLUMN public.pass_counts.timing_partner_id IS 'The partner.';

COMMENT ON COLUMN public.pass_counts.race_id IS 'The race.';

COMMENT ON COLUMN public.pass_counts.mode IS 'Mode of the pass.';

COMMENT ON COLUMN public.pass_counts.event_id IS 'The event.';

COMMENT ON COLUMN public.pass_counts.rows IS 'Active registrations sent.';

COMMENT ON COLUMN public.pass_counts.hash IS 'Sum of their row hashes; a quarantined row counts as none.';

CREATE TABLE public.pass_registrations (
    timing_partner_id integer NOT NULL,
    race_id bigint NOT NULL,
    mode text NOT NULL,
    registration_id bigint NOT NULL,
    event_id bigint NOT NULL,
    missing boolean NOT NULL
);

COMMENT ON TABLE public.pass_registrations IS 'One row: what a pass under way found out about a registration; gone with its pass.';

COMMENT ON COLUMN public.pass_registrations.timing_partner_id IS 'The partner.';

COMMENT ON COLUMN public.pass_registrations.race_id IS 'The race.';

COMMENT ON COLUMN public.pass_registrations.mode IS 'Mode of the pass.';

COMMENT ON COLUMN public.pass_registrations.registration_id IS 'The registration.';

COMMENT ON COLUMN public.pass_registrations.event_id IS 'Its event.';

COMMENT ON COLUMN public.pass_registrations.missing IS 'Of a full pass, true: stored here and absent; false: not seen, as a page had a row without id. Of an incremental pass, false: seen active.';

CREATE TABLE public.privacy_log (
    privacy_log_id bigint NOT NULL,
    done_at timestamp with time zone DEFAULT now() NOT NULL,
    who text NOT NULL,
    kind text NOT NULL,
    before date,
    timing_partner_id integer,
    counts jsonb NOT NULL,
    CONSTRAINT privacy_log_kind_check CHECK ((kind = ANY (ARRAY['purge'::text, 'erase'::text])))
);

COMMENT ON TABLE public.privacy_log IS 'One row: a purge of contact data or the erasure of a person. Names nobody. Append-only.';

COMMENT ON COLUMN public.privacy_log.privacy_log_id IS 'Number of the row.';

COMMENT ON COLUMN public.privacy_log.done_at IS 'When it was done.';

COMMENT ON COLUMN public.privacy_log.who IS 'User of the operating system and machine, or nightly_retention.';

COMMENT ON COLUMN public.privacy_log.kind IS 'purge: contact data of past and removed registrations; erase: all of one person.';

COMMENT ON COLUMN public.privacy_log.before IS 'Day of a purge; NULL for an erasure.';

COMMENT ON COLUMN public.privacy_log.timing_partner_id IS 'The partner it was confined to; NULL for all.';

COMMENT ON COLUMN public.privacy_log.counts IS 'Rows changed, by table.';

CREATE SEQUENCE public.privacy_log_privacy_log_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.privacy_log_privacy_log_id_seq OWNED BY public.privacy_log.privacy_log_id;

CREATE SEQUENCE public.providers_provider_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.providers_provider_id_seq OWNED BY public.providers.provider_id;

CREATE TABLE public.quarantined_rows (
    quarantined_row_id bigint NOT NULL,
    timing_partner_id integer NOT NULL,
    race_id bigint NOT NULL,
    registration_id bigint,
    is_stored boolean NOT NULL,
    reason text NOT NULL,
    row_digest text NOT NULL,
    row_text text,
    first_seen_at timestamp with time zone DEFAULT now() NOT NULL,
    last_seen_at timestamp with time zone DEFAULT now() NOT NULL,
    resolved_at timestamp with time zone
);

COMMENT ON TABLE public.quarantined_rows IS 'One row: a registration that could not be taken over as sent.';

COMMENT ON COLUMN public.quarantined_rows.quarantined_row_id IS 'Number of the row.';

COMMENT ON COLUMN public.quarantined_rows.timing_partner_id IS 'The partner.';

COMMENT ON COLUMN public.quarantined_rows.race_id IS 'The race.';

COMMENT ON COLUMN public.quarantined_rows.registration_id IS 'The registration, when that much could be read.';

COMMENT ON COLUMN public.quarantined_rows.is_stored IS 'true: stored with the members named in reason left NULL; false: not stored.';

COMMENT ON COLUMN public.quarantined_rows.reason IS 'What did not fit, member by member.';

COMMENT ON COLUMN public.quarantined_rows.row_digest IS 'SHA-256 of the row as sent, so that a re-read adds nothing.';

COMMENT ON COLUMN public.quarantined_rows.row_text IS 'The row as sent; bytes that are no UTF-8 or NUL are replaced.';

COMMENT ON COLUMN public.quarantined_rows.first_seen_at IS 'When it was first met.';

COMMENT ON COLUMN public.quarantined_rows.last_seen_at IS 'When it was last met.';

COMMENT ON COLUMN public.quarantined_rows.resolved_at IS 'When the registration came through whole; NULL while it has not.';

CREATE SEQUENCE public.quarantined_rows_quarantined_row_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.quarantined_rows_quarantined_row_id_seq OWNED BY public.quarantined_rows.quarantined_row_id;

CREATE TABLE public.read_passes (
    timing_partner_id integer NOT NULL,
    race_id bigint NOT NULL,
    mode text NOT NULL,
    feed text DEFAULT 'participants'::text NOT NULL,
    event_ids bigint[] NOT NULL,
    modified_after bigint,
    first_page_at bigint,
    after_registration_id bigint DEFAULT 0 NOT NULL,
    pages integer DEFAULT 0 NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    changes_from bigint,
    read_number bigint NOT NULL,
    included text DEFAULT 'none'::text NOT NULL,
    is_last_short boolean DEFAULT false NOT NULL,
    CONSTRAINT read_passes_feed_check CHECK ((feed = ANY (ARRAY['participants'::text, 'removed'::text]))),
    CONSTRAINT read_passes_mode_check CHECK ((mode = ANY (ARRAY['full'::text, 'incremental'::text, 'history'::text])))
);

COMMENT ON TABLE public.read_passes IS 'One row: a pass over a race''s registrations that is under way, or was when its process ended; the next sync goes on from it.';

COMMENT ON COLUMN public.read_passes.timing_partner_id IS 'The partner.';

COMMENT ON COLUMN public.read_passes.race_id IS 'The race.';

COMMENT ON COLUMN public.read_passes.mode IS 'full or incremental of events ahead; history: all of past ones.';

COMMENT ON COLUMN public.read_passes.feed IS 'Which of the two feeds is being read.';

COMMENT ON COLUMN public.read_passes.event_ids IS 'The events the pass reads, in one list.';

COMMENT ON COLUMN public.read_passes.modified_after IS 'Fixed cursor of an incremental pass, Unix seconds.';

COMMENT ON COLUMN public.read_passes.first_page_at IS 'When the first page was read, Unix seconds: the earliest that the clocks allow.';

COMMENT ON COLUMN public.read_passes.after_registration_id IS 'Everything up to this registration id is stored.';

COMMENT ON COLUMN public.read_passes.pages IS 'Pages stored so far.';

COMMENT ON COLUMN public.read_passes.started_at IS 'When the pass began.';

COMMENT ON COLUMN public.read_passes.changes_from IS 'Unix seconds from which the next incremental read requests changes, before the overlap is taken off.';

COMMENT ON COLUMN public.read_passes.read_number IS 'Of all reads of the hub, in the order in which they began. Requests for a read have numbers of the same sequence.';

COMMENT ON COLUMN public.read_passes.included IS 'Optional fields that the pass requests. A pass is resumed only with the same ones.';

COMMENT ON COLUMN public.read_passes.is_last_short IS 'Whether the last page with active registrations had fewer than requested, which supports that an empty one ends the feed.';

CREATE SEQUENCE public.read_passes_read_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.read_passes_read_number_seq OWNED BY public.read_passes.read_number;

CREATE VIEW public.reader_events AS
 SELECT e.event_id,
    e.race_id,
    e.timing_partner_id,
    e.race_event_days_id,
    e.name,
    e.giveaway,
    e.start_time,
    e.starts_at,
    e.end_time,
    e.ends_at,
    e.registration_opens,
    e.age_calc_base_date,
    e.event_type,
    e.distance,
    e.distance_text,
    e.volunteer,
    e.is_bundle,
    e.sub_event_ids,
    e.gone_at,
    e.fetched_date
   FROM public.runsignup_events e;

COMMENT ON VIEW public.reader_events IS 'Events of all editions, without what RunSignup sent beside the columns.';

CREATE VIEW public.reader_participants AS
 SELECT p.timing_partner_id,
    p.race_id,
    p.event_id,
    p.registration_id,
    p.first_name,
    p.last_name,
    p.gender,
    p.age,
    (p.address ->> 'city'::text) AS city,
    (p.address ->> 'state'::text) AS state,
    (p.address ->> 'country_code'::text) AS country_code,
    (p.team_info ->> 'team_name'::text) AS team,
    COALESCE(public.rsu_bib(p.bib_num, p.team_info), p.local_bib) AS bib,
    p.chip_num,
    p.registered_at,
    p.last_modified,
    p.removed_at,
    p.removed_reason,
    p.new_registration_id,
    p.first_seen_at,
    p.changed_at
   FROM public.runsignup_participants p;

COMMENT ON VIEW public.reader_participants IS 'Registrations, active and removed, without e-mail, phone, street, birth date, payments and what RunSignup sent beside the columns.';

CREATE VIEW public.reader_partners AS
 SELECT p.timing_partner_id,
    p.company_name,
    p.partition_key,
    p.disabled_at
   FROM public.timing_partners p;

COMMENT ON VIEW public.reader_partners IS 'Timing partners, without the password that other programs keep for them.';

CREATE VIEW public.reader_races AS
 SELECT r.race_id,
    r.timing_partner_id,
    r.name,
    r.last_date,
    r.last_end_date,
    r.next_date,
    r.next_end_date,
    r.created,
    r.last_modified,
    r.is_draft_race,
    r.is_private_race,
    r.is_registration_open,
    r.url,
    r.external_race_url,
    r.external_results_url,
    r.logo_url,
    r.timezone,
    r.address,
    r.detail_as_of,
    r.fetched_date
   FROM public.runsignup_races r;

COMMENT ON VIEW public.reader_races IS 'Races, without what RunSignup sent beside the columns.';

CREATE TABLE public.refused_events (
    timing_partner_id integer NOT NULL,
    event_id bigint NOT NULL,
    refused_at timestamp with time zone DEFAULT now() NOT NULL,
    reason text NOT NULL
);

COMMENT ON TABLE public.refused_events IS 'One row: an event that RunSignup refuses for a partner. It is requested apart from its race''s other events.';

COMMENT ON COLUMN public.refused_events.timing_partner_id IS 'The partner.';

COMMENT ON COLUMN public.refused_events.event_id IS 'The event.';

COMMENT ON COLUMN public.refused_events.refused_at IS 'When RunSignup last refused it.';

COMMENT ON COLUMN public.refused_events.reason IS 'RunSignup''s answer.';

CREATE TABLE public.runsignup_api_keys (
    api_key_id integer NOT NULL,
    fingerprint text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE public.runsignup_api_keys IS 'One row: an API key of RunSignup. The call ledger counts by it.';

COMMENT ON COLUMN public.runsignup_api_keys.api_key_id IS 'Surrogate key. It stays when the secret key is rotated.';

COMMENT ON COLUMN public.runsignup_api_keys.fingerprint IS 'Keyed digest of the API key (HMAC-SHA256 under a key derived from the secret key), as hexadecimal digits.';

COMMENT ON COLUMN public.runsignup_api_keys.created_at IS 'When the API key was first encrypted.';

CREATE SEQUENCE public.runsignup_api_keys_api_key_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.runsignup_api_keys_api_key_id_seq OWNED BY public.runsignup_api_keys.api_key_id;

CREATE TABLE public.runsignup_bib_changes (
    bib_change_id bigint NOT NULL,
    timing_partner_id integer NOT NULL,
    race_id bigint NOT NULL,
    event_id bigint NOT NULL,
    registration_id bigint NOT NULL,
    kind text NOT NULL,
    old_bib text,
    new_bib text,
    modified_epoch bigint,
    last_seen_old timestamp with time zone,
    first_seen_new timestamp with time zone NOT NULL,
    recorded_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    run_id text,
    source text DEFAULT 'runsignup'::text NOT NULL,
    CONSTRAINT runsignup_bib_changes_check CHECK ((old_bib IS DISTINCT FROM new_bib)),
    CONSTRAINT runsignup_bib_changes_kind_check CHECK ((kind = ANY (ARRAY['assigned'::text, 'changed'::text, 'cleared'::text]))),
    CONSTRAINT runsignup_bib_changes_source_check CHECK ((source = ANY (ARRAY['runsignup'::text, 'hub'::text])))
);

COMMENT ON TABLE public.runsignup_bib_changes IS 'One row: the bib that counts for a registration (its own, else its team''s) set, changed or cleared at RunSignup after its event''s first load. Append-only.';

COMMENT ON COLUMN public.runsignup_bib_changes.bib_change_id IS 'Number of the change; rises within a registration.';

COMMENT ON COLUMN public.runsignup_bib_changes.timing_partner_id IS 'The partner.';

COMMENT ON COLUMN public.runsignup_bib_changes.race_id IS 'The race.';

COMMENT ON COLUMN public.runsignup_bib_changes.event_id IS 'The event.';

COMMENT ON COLUMN public.runsignup_bib_changes.registration_id IS 'The registration.';

COMMENT ON COLUMN public.runsignup_bib_changes.kind IS 'assigned (none before), changed, cleared (none after).';

COMMENT ON COLUMN public.runsignup_bib_changes.old_bib IS 'Bib before; NULL for none.';

COMMENT ON COLUMN public.runsignup_bib_changes.new_bib IS 'Bib after; NULL for none.';

COMMENT ON COLUMN public.runsignup_bib_changes.modified_epoch IS 'When RunSignup last changed the registration, Unix seconds: the change is no later.';

COMMENT ON COLUMN public.runsignup_bib_changes.last_seen_old IS 'RunSignup''s clock when the old bib was last seen.';

COMMENT ON COLUMN public.runsignup_bib_changes.first_seen_new IS 'RunSignup''s clock at the answer that first had the new bib.';

COMMENT ON COLUMN public.runsignup_bib_changes.recorded_at IS 'When the change was written here.';

COMMENT ON COLUMN public.runsignup_bib_changes.run_id IS 'The run that saw it.';

COMMENT ON COLUMN public.runsignup_bib_changes.source IS 'hub: the bib was given here and sent to RunSignup. runsignup: it was given there.';

CREATE SEQUENCE public.runsignup_bib_changes_bib_change_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.runsignup_bib_changes_bib_change_id_seq OWNED BY public.runsignup_bib_changes.bib_change_id;

CREATE SEQUENCE public.runsignup_participants_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.runsignup_participants_id_seq OWNED BY public.runsignup_participants.id;

CREATE TABLE public.schema_drift (
    timing_partner_id integer NOT NULL,
    race_id bigint NOT NULL,
    field text NOT NULL,
    kind text NOT NULL,
    occurrences bigint NOT NULL,
    first_seen_at timestamp with time zone DEFAULT now() NOT NULL,
    last_seen_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT schema_drift_kind_check CHECK ((kind = ANY (ARRAY['unknown'::text, 'form'::text, 'type'::text])))
);

COMMENT ON TABLE public.schema_drift IS 'One row: a field of a race''s registrations that differs from what this program knows of RunSignup.';

COMMENT ON COLUMN public.schema_drift.timing_partner_id IS 'The partner whose credential read it.';

COMMENT ON COLUMN public.schema_drift.race_id IS 'The race.';

COMMENT ON COLUMN public.schema_drift.field IS 'Name of the field, never its value; user.… for one of the person.';

COMMENT ON COLUMN public.schema_drift.kind IS 'unknown: a new field. form: an optional field whose form is not known. type: a known field that is a list or an object instead of a value, or the other way round.';

COMMENT ON COLUMN public.schema_drift.occurrences IS 'Registrations that were read with it, each as often as it was read.';

COMMENT ON COLUMN public.schema_drift.first_seen_at IS 'When it was first read.';

COMMENT ON COLUMN public.schema_drift.last_seen_at IS 'When it was last read.';

CREATE TABLE public.schema_migrations (
    version integer NOT NULL,
    name text NOT NULL,
    digest text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE public.schema_migrations IS 'One row: a migration applied to this database.';

COMMENT ON COLUMN public.schema_migrations.version IS 'Number of the migration.';

COMMENT ON COLUMN public.schema_migrations.name IS 'Its file.';

COMMENT ON COLUMN public.schema_migrations.digest IS 'SHA-256 of the file when it was applied.';

COMMENT ON COLUMN public.schema_migrations.applied_at IS 'When it was applied.';

CREATE VIEW public.start_list AS
 SELECT s.timing_partner_id,
    r.name AS race,
    e.name AS event,
    e.start_time AS start,
    s.bib_number,
    s.bib,
    NULLIF(concat_ws(' '::text, s.first_name, s.last_name), ''::text) AS name,
    s.first_name,
    s.last_name,
    s.age,
    s.gender,
    s.city,
    s.state,
    s.team,
    array_to_string(s.problems, ', '::text) AS problems,
    s.race_id,
    s.event_id,
    s.registration_id,
    s.bib_source
   FROM ((public.start_list_entries s
     JOIN public.runsignup_events e ON ((e.event_id = s.event_id)))
     JOIN public.runsignup_races r ON ((r.race_id = s.race_id)));

COMMENT ON VIEW public.start_list IS 'Start lists for scoring, one row an entrant: start is wall time in the race''s zone, bib_number orders, bib is the text. Where two partners share a race, choose one.';

CREATE TABLE public.start_list_folders (
    folder text NOT NULL,
    machine text NOT NULL,
    kept_at timestamp with time zone NOT NULL,
    failing_since timestamp with time zone,
    last_error text
);

COMMENT ON TABLE public.start_list_folders IS 'One row: a folder that a process keeps files of start lists in.';

COMMENT ON COLUMN public.start_list_folders.folder IS 'Its path.';

COMMENT ON COLUMN public.start_list_folders.machine IS 'Host and process id of the process that keeps it.';

COMMENT ON COLUMN public.start_list_folders.kept_at IS 'When that process last compared the files with the lists, by the database''s clock.';

COMMENT ON COLUMN public.start_list_folders.failing_since IS 'Since when a file or the folder cannot be written; NULL: all of them are current.';

COMMENT ON COLUMN public.start_list_folders.last_error IS 'Why not.';

CREATE TABLE public.start_lists (
    timing_partner_id integer NOT NULL,
    event_id bigint NOT NULL,
    race_id bigint NOT NULL,
    race_day date,
    entrants integer NOT NULL,
    with_bib integer NOT NULL,
    without_bib integer NOT NULL,
    duplicate_bibs integer NOT NULL,
    bibs_in_other_events integer NOT NULL,
    out_of_range integer NOT NULL,
    in_two_events integer NOT NULL,
    lowest_bib bigint,
    highest_bib bigint,
    registrations_changed_at timestamp with time zone,
    built_at timestamp with time zone DEFAULT now() NOT NULL,
    age_day date
);

COMMENT ON TABLE public.start_lists IS 'One row: an event ahead, or over for less than two days, and its start list in figures. Volunteers'' events have none.';

COMMENT ON COLUMN public.start_lists.timing_partner_id IS 'The partner.';

COMMENT ON COLUMN public.start_lists.event_id IS 'The event.';

COMMENT ON COLUMN public.start_lists.race_id IS 'Its race.';

COMMENT ON COLUMN public.start_lists.race_day IS 'Day of the start by the race''s own calendar; NULL for an undated event.';

COMMENT ON COLUMN public.start_lists.entrants IS 'Entrants: active registrations of the event.';

COMMENT ON COLUMN public.start_lists.with_bib IS 'Entrants with a bib.';

COMMENT ON COLUMN public.start_lists.without_bib IS 'Entrants without one.';

COMMENT ON COLUMN public.start_lists.duplicate_bibs IS 'Entrants whose bib another entrant of the event has too.';

COMMENT ON COLUMN public.start_lists.bibs_in_other_events IS 'Entrants whose bib another person has in another event of the race on the same day.';

COMMENT ON COLUMN public.start_lists.out_of_range IS 'Entrants whose bib is far from the event''s others.';

COMMENT ON COLUMN public.start_lists.in_two_events IS 'Entrants who are in another event of the edition too, not by way of a bundle.';

COMMENT ON COLUMN public.start_lists.lowest_bib IS 'Lowest bib that is a number.';

COMMENT ON COLUMN public.start_lists.highest_bib IS 'Highest bib that is a number.';

COMMENT ON COLUMN public.start_lists.registrations_changed_at IS 'Newest change among the event''s registrations, removed ones too, when the list was built: a newer one makes it out of date.';

COMMENT ON COLUMN public.start_lists.built_at IS 'When the list last came out different.';

COMMENT ON COLUMN public.start_lists.age_day IS 'Day on which ages count that RunSignup did not send: the event''s age_calc_base_date, else its race day.';

CREATE TABLE public.sync_history (
    sync_history_id integer NOT NULL,
    timing_partner_id integer,
    provider_id integer,
    event_id character varying(100),
    operation_type character varying(50),
    sync_direction character varying(50),
    sync_time timestamp without time zone DEFAULT now(),
    status character varying(20),
    num_of_synced_records integer DEFAULT 0,
    entries_success integer DEFAULT 0,
    entries_failed integer DEFAULT 0,
    error_details jsonb,
    data_snapshot jsonb,
    duration_seconds integer,
    callback_url character varying(255),
    reason text,
    race_id bigint,
    event_ids bigint[],
    run_id text,
    finished_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE public.sync_history IS 'One row: one race read, or tried, by one run.';

COMMENT ON COLUMN public.sync_history.sync_history_id IS 'Number of the row.';

COMMENT ON COLUMN public.sync_history.timing_partner_id IS 'The partner.';

COMMENT ON COLUMN public.sync_history.provider_id IS 'RunSignup.';

COMMENT ON COLUMN public.sync_history.event_id IS 'The event when the read was of one only; see event_ids.';

COMMENT ON COLUMN public.sync_history.operation_type IS 'full or incremental; events for the listing.';

COMMENT ON COLUMN public.sync_history.sync_direction IS 'pull.';

COMMENT ON COLUMN public.sync_history.sync_time IS 'When the read began, in the database''s zone.';

COMMENT ON COLUMN public.sync_history.status IS 'completed; partial (some rows quarantined); failed.';

COMMENT ON COLUMN public.sync_history.num_of_synced_records IS 'Rows read.';

COMMENT ON COLUMN public.sync_history.entries_success IS 'Rows stored or found unchanged.';

COMMENT ON COLUMN public.sync_history.entries_failed IS 'Rows quarantined.';

COMMENT ON COLUMN public.sync_history.error_details IS 'cause, remedy and message of a failure.';

COMMENT ON COLUMN public.sync_history.data_snapshot IS 'Counts: inserted, updated, unchanged, removed, quarantined, calls, pages.';

COMMENT ON COLUMN public.sync_history.duration_seconds IS 'Seconds, rounded.';

COMMENT ON COLUMN public.sync_history.callback_url IS 'Of other programs; not used here.';

COMMENT ON COLUMN public.sync_history.reason IS 'Why the read was of that kind, or what failed.';

COMMENT ON COLUMN public.sync_history.race_id IS 'The race; NULL for the listing.';

COMMENT ON COLUMN public.sync_history.event_ids IS 'The events read.';

COMMENT ON COLUMN public.sync_history.run_id IS 'The run.';

COMMENT ON COLUMN public.sync_history.finished_at IS 'When it ended, as an instant.';

CREATE SEQUENCE public.sync_history_sync_history_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.sync_history_sync_history_id_seq OWNED BY public.sync_history.sync_history_id;

CREATE SEQUENCE public.timing_partners_timing_partner_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.timing_partners_timing_partner_id_seq OWNED BY public.timing_partners.timing_partner_id;

CREATE VIEW public.unified_events AS
 SELECT 'runsignup'::text AS source_provider,
    COALESCE(o.timing_partner_id, e.timing_partner_id) AS timing_partner_id,
    (e.event_id)::character varying AS event_id,
    e.name AS event_name,
    e.start_time AS event_date,
    e.fetched_date
   FROM (public.runsignup_events e
     LEFT JOIN public.race_owners o ON ((o.race_id = e.race_id)))
  WHERE ((e.gone_at IS NULL) AND ((o.race_id IS NOT NULL) OR (NOT (EXISTS ( SELECT
           FROM public.partner_races l
          WHERE (l.race_id = e.race_id))))));

COMMENT ON VIEW public.unified_events IS 'Events of all races that a partner can read, in the columns that race displays read.';

CREATE VIEW public.unified_participants AS
 SELECT 'runsignup'::text AS source_provider,
    p.timing_partner_id,
    (p.event_id)::character varying AS event_id,
    p.first_name,
    p.last_name,
    p.email,
    p.gender,
    COALESCE(public.rsu_bib(p.bib_num, p.team_info), p.local_bib) AS bib_number,
    (p.address ->> 'city'::text) AS city,
    (p.address ->> 'state'::text) AS state,
    p.age,
    p.registration_date,
    p.fetched_date
   FROM ((public.runsignup_participants p
     JOIN public.runsignup_events e ON (((e.event_id = p.event_id) AND (e.gone_at IS NULL))))
     JOIN public.race_owners o ON (((o.race_id = e.race_id) AND (o.timing_partner_id = p.timing_partner_id))))
  WHERE (p.removed_at IS NULL);

COMMENT ON VIEW public.unified_participants IS 'Active registrations, each once, in the columns that race displays read.';

CREATE TABLE public.webhook_messages (
    message_id bigint NOT NULL,
    message_key uuid DEFAULT gen_random_uuid() NOT NULL,
    webhook_id integer NOT NULL,
    kind text NOT NULL,
    subject text NOT NULL,
    body json NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    first_tried_at timestamp with time zone,
    retry_at timestamp with time zone,
    last_error text,
    delivered_at timestamp with time zone,
    dead_at timestamp with time zone
);

COMMENT ON TABLE public.webhook_messages IS 'One row: a message to a webhook, written by the transaction that stored the change. The outbox.';

COMMENT ON COLUMN public.webhook_messages.message_id IS 'Number of the message; rises within a subject.';

COMMENT ON COLUMN public.webhook_messages.message_key IS 'Its webhook-id, the same at every attempt.';

COMMENT ON COLUMN public.webhook_messages.webhook_id IS 'The webhook.';

COMMENT ON COLUMN public.webhook_messages.kind IS 'Kind of message, as docs/webhooks.md has them.';

COMMENT ON COLUMN public.webhook_messages.subject IS 'Partner and registration, or partner and event. Messages of a subject are sent in order.';

COMMENT ON COLUMN public.webhook_messages.body IS 'The message as it is sent, byte for byte.';

COMMENT ON COLUMN public.webhook_messages.created_at IS 'When the change was stored.';

COMMENT ON COLUMN public.webhook_messages.attempts IS 'How often it was sent.';

COMMENT ON COLUMN public.webhook_messages.first_tried_at IS 'When it was first sent.';

COMMENT ON COLUMN public.webhook_messages.retry_at IS 'When it is sent again after a failure; NULL: at once.';

COMMENT ON COLUMN public.webhook_messages.last_error IS 'Why the last attempt failed.';

COMMENT ON COLUMN public.webhook_messages.delivered_at IS 'When the receiver accepted it; NULL before.';

COMMENT ON COLUMN public.webhook_messages.dead_at IS 'When it was given up; NULL otherwise. `rsu webhooks redeliver` sends it again.';

CREATE SEQUENCE public.webhook_messages_message_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.webhook_messages_message_id_seq OWNED BY public.webhook_messages.message_id;

CREATE TABLE public.webhook_worker (
    is_only boolean DEFAULT true NOT NULL,
    machine text NOT NULL,
    alive_at timestamp with time zone NOT NULL,
    CONSTRAINT webhook_worker_is_only_check CHECK (is_only)
);

COMMENT ON TABLE public.webhook_worker IS 'At most one row: the process that delivers messages.';

COMMENT ON COLUMN public.webhook_worker.is_only IS 'true.';

COMMENT ON COLUMN public.webhook_worker.machine IS 'Its host and process id.';

COMMENT ON COLUMN public.webhook_worker.alive_at IS 'Its last heartbeat, by the database''s clock.';

CREATE TABLE public.webhooks (
    webhook_id integer NOT NULL,
    timing_partner_id integer,
    host text NOT NULL,
    url text NOT NULL,
    secret text NOT NULL,
    kinds text[] NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    disabled_at timestamp with time zone,
    failures integer DEFAULT 0 NOT NULL,
    failing_since timestamp with time zone,
    retry_at timestamp with time zone,
    last_error text,
    delivered_at timestamp with time zone,
    CONSTRAINT webhooks_kinds_check CHECK ((cardinality(kinds) > 0))
);

COMMENT ON TABLE public.webhooks IS 'One row: an address that is sent the changes of a partner, or of all.';

COMMENT ON COLUMN public.webhooks.webhook_id IS 'Number of the webhook.';

COMMENT ON COLUMN public.webhooks.timing_partner_id IS 'The partner whose changes it is sent; NULL: of all partners.';

COMMENT ON COLUMN public.webhooks.host IS 'Host and port of the address, for people.';

COMMENT ON COLUMN public.webhooks.url IS 'The address, encrypted (sealed:...).';

COMMENT ON COLUMN public.webhooks.secret IS 'The secret that signs messages, encrypted (sealed:...).';

COMMENT ON COLUMN public.webhooks.kinds IS 'Kinds of messages that it is sent, as docs/webhooks.md has them.';

COMMENT ON COLUMN public.webhooks.created_at IS 'When it was added. It is sent what is stored from then on.';

COMMENT ON COLUMN public.webhooks.disabled_at IS 'When its receiver answered that it is gone (HTTP 410). Nothing is queued or sent since.';

COMMENT ON COLUMN public.webhooks.failures IS 'Attempts in a row that failed.';

COMMENT ON COLUMN public.webhooks.failing_since IS 'When the first of them failed; NULL when the last attempt succeeded.';

COMMENT ON COLUMN public.webhooks.retry_at IS 'When it is sent something next after a failure; NULL: at once.';

COMMENT ON COLUMN public.webhooks.last_error IS 'Why the last attempt failed, in one sentence without the address.';

COMMENT ON COLUMN public.webhooks.delivered_at IS 'When it last accepted a message.';

CREATE SEQUENCE public.webhooks_webhook_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.webhooks_webhook_id_seq OWNED BY public.webhooks.webhook_id;

ALTER TABLE ONLY public.alerts ALTER COLUMN alert_id SET DEFAULT nextval('public.alerts_alert_id_seq'::regclass);

ALTER TABLE ONLY public.api_calls ALTER COLUMN api_call_id SET DEFAULT nextval('public.api_calls_api_call_id_seq'::regclass);

ALTER TABLE ONLY public.bib_pushes ALTER COLUMN bib_push_id SET DEFAULT nextval('public.bib_pushes_bib_push_id_seq'::regclass);

ALTER TABLE ONLY public.erased_registrations ALTER COLUMN erased_registration_id SET DEFAULT nextval('public.erased_registrations_erased_registration_id_seq'::regclass);

ALTER TABLE ONLY public.erased_users ALTER COLUMN erased_user_id SET DEFAULT nextval('public.erased_users_erased_user_id_seq'::regclass);

ALTER TABLE ONLY public.foreign_writes ALTER COLUMN foreign_write_id SET DEFAULT nextval('public.foreign_writes_foreign_write_id_seq'::regclass);

ALTER TABLE ONLY public.partner_provider_credentials ALTER COLUMN partner_provider_credential_id SET DEFAULT nextval('public.partner_provider_credentials_partner_provider_credential_id_seq'::regclass);

ALTER TABLE ONLY public.privacy_log ALTER COLUMN privacy_log_id SET DEFAULT nextval('public.privacy_log_privacy_log_id_seq'::regclass);

ALTER TABLE ONLY public.providers ALTER COLUMN provider_id SET DEFAULT nextval('public.providers_provider_id_seq'::regclass);

ALTER TABLE ONLY public.quarantined_rows ALTER COLUMN quarantined_row_id SET DEFAULT nextval('public.quarantined_rows_quarantined_row_id_seq'::regclass);

ALTER TABLE ONLY public.read_passes ALTER COLUMN read_number SET DEFAULT nextval('public.read_passes_read_number_seq'::regclass);

ALTER TABLE ONLY public.runsignup_api_keys ALTER COLUMN api_key_id SET DEFAULT nextval('public.runsignup_api_keys_api_key_id_seq'::regclass);

ALTER TABLE ONLY public.runsignup_bib_changes ALTER COLUMN bib_change_id SET DEFAULT nextval('public.runsignup_bib_changes_bib_change_id_seq'::regclass);

ALTER TABLE ONLY public.runsignup_participants ALTER COLUMN id SET DEFAULT nextval('public.runsignup_participants_id_seq'::regclass);

ALTER TABLE ONLY public.sync_history ALTER COLUMN sync_history_id SET DEFAULT nextval('public.sync_history_sync_history_id_seq'::regclass);

ALTER TABLE ONLY public.timing_partners ALTER COLUMN timing_partner_id SET DEFAULT nextval('public.timing_partners_timing_partner_id_seq'::regclass);

ALTER TABLE ONLY public.webhook_messages ALTER COLUMN message_id SET DEFAULT nextval('public.webhook_messages_message_id_seq'::regclass);

ALTER TABLE ONLY public.webhooks ALTER COLUMN webhook_id SET DEFAULT nextval('public.webhooks_webhook_id_seq'::regclass);

ALTER TABLE ONLY public.accepted_schema_drift
    ADD CONSTRAINT accepted_schema_drift_pkey PRIMARY KEY (field);

ALTER TABLE ONLY public.alerts
    ADD CONSTRAINT alerts_pkey PRIMARY KEY (alert_id);

ALTER TABLE ONLY public.api_calls
    ADD CONSTRAINT api_calls_pkey PRIMARY KEY (api_call_id);

ALTER TABLE ONLY public.bib_changes_handled
    ADD CONSTRAINT bib_changes_handled_pkey PRIMARY KEY (bib_change_id);

ALTER TABLE ONLY public.bib_push_events
    ADD CONSTRAINT bib_push_events_pkey PRIMARY KEY (timing_partner_id, event_id);

ALTER TABLE ONLY public.bib_pushes
    ADD CONSTRAINT bib_pushes_pkey PRIMARY KEY (bib_push_id);

ALTER TABLE ONLY public.contact_retention
    ADD CONSTRAINT contact_retention_pkey PRIMARY KEY (is_set);

ALTER TABLE ONLY public.erased_registrations
    ADD CONSTRAINT erased_registrations_pkey PRIMARY KEY (erased_registration_id);

ALTER TABLE ONLY public.erased_users
    ADD CONSTRAINT erased_users_pkey PRIMARY KEY (erased_user_id);

ALTER TABLE ONLY public.event_cursors
    ADD CONSTRAINT event_cursors_pkey PRIMARY KEY (timing_partner_id, event_id);

ALTER TABLE ONLY public.failing_notifiers
    ADD CONSTRAINT failing_notifiers_pkey PRIMARY KEY ("position");

ALTER TABLE ONLY public.foreign_writes
    ADD CONSTRAINT foreign_writes_pkey PRIMARY KEY (foreign_write_id);

ALTER TABLE ONLY public.foreign_writes
    ADD CONSTRAINT foreign_writes_seen_on_table_name_operation_login_program_a_key UNIQUE (seen_on, table_name, operation, login, program, address);

ALTER TABLE ONLY public.future_events
    ADD CONSTRAINT future_events_pkey PRIMARY KEY (timing_partner_id, event_id);

ALTER TABLE ONLY public.history_events
    ADD CONSTRAINT history_events_pkey PRIMARY KEY (timing_partner_id, event_id);

ALTER TABLE ONLY public.history_races
    ADD CONSTRAINT history_races_pkey PRIMARY KEY (timing_partner_id, race_id);

ALTER TABLE ONLY public.history_requests
    ADD CONSTRAINT history_requests_pkey PRIMARY KEY (timing_partner_id);

ALTER TABLE ONLY public.hub_clocks
    ADD CONSTRAINT hub_clocks_pkey PRIMARY KEY (hub);

ALTER TABLE ONLY public.partner_provider_credentials
    ADD CONSTRAINT partner_provider_credentials_pkey PRIMARY KEY (partner_provider_credential_id);

ALTER TABLE ONLY public.partner_provider_credentials
    ADD CONSTRAINT partner_provider_credentials_timing_partner_id_provider_id_key UNIQUE (timing_partner_id, provider_id);

ALTER TABLE ONLY public.partner_races
    ADD CONSTRAINT partner_races_pkey PRIMARY KEY (timing_partner_id, race_id);

ALTER TABLE ONLY public.pass_counts
    ADD CONSTRAINT pass_counts_pkey PRIMARY KEY (timing_partner_id, race_id, mode, event_id);

ALTER TABLE ONLY public.pass_registrations
    ADD CONSTRAINT pass_registrations_pkey PRIMARY KEY (timing_partner_id, race_id, mode, registration_id);

ALTER TABLE ONLY public.privacy_log
    ADD CONSTRAINT privacy_log_pkey PRIMARY KEY (privacy_log_id);

ALTER TABLE ONLY public.providers
    ADD CONSTRAINT providers_name_key UNIQUE (name);

ALTER TABLE ONLY public.providers
    ADD CONSTRAINT providers_pkey PRIMARY KEY (provider_id);

ALTER TABLE ONLY public.quarantined_rows
    ADD CONSTRAINT quarantined_rows_pkey PRIMARY KEY (quarantined_row_id);

ALTER TABLE ONLY public.quarantined_rows
    ADD CONSTRAINT quarantined_rows_timing_partner_id_race_id_row_digest_key UNIQUE (timing_partner_id, race_id, row_digest);

ALTER TABLE ONLY public.read_passes
    ADD CONSTRAINT read_passes_pkey PRIMARY KEY (timing_partner_id, race_id, mode);

ALTER TABLE ONLY public.refused_events
    ADD CONSTRAINT refused_events_pkey PRIMARY KEY (timing_partner_id, event_id);

ALTER TABLE ONLY public.runsignup_api_keys
    ADD CONSTRAINT runsignup_api_keys_fingerprint_key UNIQUE (fingerprint);

ALTER TABLE ONLY public.runsignup_api_keys
    ADD CONSTRAINT runsignup_api_keys_pkey PRIMARY KEY (api_key_id);

ALTER TABLE ONLY public.runsignup_bib_changes
    ADD CONSTRAINT runsignup_bib_changes_pkey PRIMARY KEY (bib_change_id);

ALTER TABLE ONLY public.runsignup_events
    ADD CONSTRAINT runsignup_events_pkey PRIMARY KEY (event_id);

ALTER TABLE ONLY public.runsignup_participants
    ADD CONSTRAINT runsignup_participants_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.runsignup_races
    ADD CONSTRAINT runsignup_races_pkey PRIMARY KEY (race_id);

ALTER TABLE ONLY public.schema_drift
    ADD CONSTRAINT schema_drift_pkey PRIMARY KEY (timing_partner_id, race_id, field, kind);

ALTER TABLE ONLY public.schema_migrations
    ADD CONSTRAINT schema_migrations_pkey PRIMARY KEY (version);

ALTER TABLE ONLY public.start_list_entries
    ADD CONSTRAINT start_list_entries_pkey PRIMARY KEY (timing_partner_id, registration_id);

ALTER TABLE ONLY public.start_list_folders
    ADD CONSTRAINT start_list_folders_pkey PRIMARY KEY (folder, machine);

ALTER TABLE ONLY public.start_lists
    ADD CONSTRAINT start_lists_pkey PRIMARY KEY (timing_partner_id, event_id);

ALTER TABLE ONLY public.sync_history
    ADD CONSTRAINT sync_history_pkey PRIMARY KEY (sync_history_id);

ALTER TABLE ONLY public.timing_partners
    ADD CONSTRAINT timing_partners_partition_key_key UNIQUE (partition_key);

ALTER TABLE ONLY public.timing_partners
    ADD CONSTRAINT timing_partners_pkey PRIMARY KEY (timing_partner_id);

ALTER TABLE ONLY public.webhook_messages
    ADD CONSTRAINT webhook_messages_pkey PRIMARY KEY (message_id);

ALTER TABLE ONLY public.webhook_worker
    ADD CONSTRAINT webhook_worker_pkey PRIMARY KEY (is_only);

ALTER TABLE ONLY public.webhooks
    ADD CONSTRAINT webhooks_pkey PRIMARY KEY (webhook_id);

CREATE INDEX alerts_cleared_at ON public.alerts USING btree (cleared_at);

CREATE UNIQUE INDEX alerts_open ON public.alerts USING btree (kind, cause) WHERE (cleared_at IS NULL);

CREATE INDEX api_calls_in_flight ON public.api_calls USING btree (granted_at) WHERE (settled_at IS NULL);

CREATE INDEX api_calls_of_api_key ON public.api_calls USING btree (api_key_id, granted_at);

CREATE INDEX api_calls_of_credential ON public.api_calls USING btree (credential_id, granted_at);

CREATE INDEX bib_pushes_event ON public.bib_pushes USING btree (timing_partner_id, event_id);

CREATE UNIQUE INDEX bib_pushes_open ON public.bib_pushes USING btree (timing_partner_id, registration_id, bib) WHERE (outcome IS NULL);

CREATE UNIQUE INDEX erased_registrations_once ON public.erased_registrations USING btree (registration_id, COALESCE(timing_partner_id, 0));

CREATE UNIQUE INDEX erased_users_once ON public.erased_users USING btree (user_id, COALESCE(timing_partner_id, 0));

CREATE INDEX event_cursors_race ON public.event_cursors USING btree (timing_partner_id, race_id);

CREATE INDEX partner_provider_credentials_api_key_id ON public.partner_provider_credentials USING btree (api_key_id);

CREATE INDEX partner_provider_credentials_provider_id ON public.partner_provider_credentials USING btree (provider_id);

CREATE INDEX partner_races_race_id ON public.partner_races USING btree (race_id);

CREATE UNIQUE INDEX providers_name_in_any_case ON public.providers USING btree (lower((name)::text));

CREATE INDEX quarantined_rows_open ON public.quarantined_rows USING btree (timing_partner_id, registration_id) WHERE (resolved_at IS NULL);

CREATE INDEX runsignup_bib_changes_recorded_at ON public.runsignup_bib_changes USING btree (recorded_at);

CREATE INDEX runsignup_bib_changes_registration ON public.runsignup_bib_changes USING btree (timing_partner_id, registration_id, bib_change_id);

CREATE INDEX runsignup_events_race_id ON public.runsignup_events USING btree (race_id);

CREATE INDEX runsignup_events_start_time ON public.runsignup_events USING btree (start_time);

CREATE INDEX runsignup_events_timing_partner_id ON public.runsignup_events USING btree (timing_partner_id);

CREATE INDEX runsignup_participants_bib_num ON public.runsignup_participants USING btree (bib_num);

CREATE INDEX runsignup_participants_email ON public.runsignup_participants USING btree (email);

CREATE INDEX runsignup_participants_event_id_text ON public.runsignup_participants USING btree (((event_id)::character varying));

CREATE UNIQUE INDEX runsignup_participants_identity ON public.runsignup_participants USING btree (timing_partner_id, registration_id);

CREATE INDEX runsignup_participants_left_bibs ON public.runsignup_participants USING btree (timing_partner_id, registration_id) WHERE ((local_bib IS NOT NULL) AND (removed_at IS NOT NULL) AND (new_registration_id IS NOT NULL));

CREATE INDEX runsignup_participants_of_event ON public.runsignup_participants USING btree (event_id, timing_partner_id, registration_id);

CREATE INDEX runsignup_participants_removed ON public.runsignup_participants USING btree (event_id, timing_partner_id) WHERE (removed_at IS NOT NULL);

CREATE INDEX runsignup_races_timing_partner_id ON public.runsignup_races USING btree (timing_partner_id);

CREATE INDEX start_list_entries_bib ON public.start_list_entries USING btree (bib);

CREATE INDEX start_list_entries_of_event ON public.start_list_entries USING btree (event_id, timing_partner_id, bib_number, bib);

CREATE INDEX start_lists_event_id ON public.start_lists USING btree (event_id);

CREATE INDEX sync_history_partner ON public.sync_history USING btree (timing_partner_id, finished_at DESC);

CREATE INDEX sync_history_race ON public.sync_history USING btree (timing_partner_id, race_id, finished_at DESC);

CREATE INDEX sync_history_run ON public.sync_history USING btree (run_id);

CREATE INDEX sync_history_sync_time ON public.sync_history USING btree (sync_time DESC);

CREATE INDEX timing_partners_company_name ON public.timing_partners USING btree (company_name);

CREATE INDEX webhook_messages_dead ON public.webhook_messages USING btree (webhook_id, message_id) WHERE (dead_at IS NOT NULL);

CREATE INDEX webhook_messages_pending ON public.webhook_messages USING btree (webhook_id, message_id) WHERE ((delivered_at IS NULL) AND (dead_at IS NULL));

CREATE INDEX webhook_messages_subject ON public.webhook_messages USING btree (webhook_id, subject, message_id) WHERE ((delivered_at IS NULL) AND (dead_at IS NULL));

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.privacy_log FOR EACH STATEMENT EXECUTE FUNCTION public.rsu_refuse_change();

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.runsignup_bib_changes FOR EACH STATEMENT EXECUTE FUNCTION public.rsu_refuse_change();

CREATE TRIGGER blank_quarantined BEFORE INSERT OR UPDATE ON public.quarantined_rows FOR EACH ROW EXECUTE FUNCTION public.rsu_blank_quarantined();

CREATE TRIGGER forget_access BEFORE UPDATE OF principal, secret ON public.partner_provider_credentials FOR EACH ROW EXECUTE FUNCTION public.rsu_forget_access();

CREATE TRIGGER forget_api_key BEFORE UPDATE OF principal ON public.partner_provider_credentials FOR EACH ROW EXECUTE FUNCTION public.rsu_forget_api_key();

CREATE TRIGGER name_api_key BEFORE INSERT ON public.api_calls FOR EACH ROW WHEN ((new.api_key_id IS NULL)) EXECUTE FUNCTION public.rsu_name_api_key();

CREATE TRIGGER note_foreign_write AFTER INSERT OR DELETE OR UPDATE OF event_id, race_id, timing_partner_id, race_event_days_id, name, details, giveaway, start_time, starts_at, end_time, ends_at, registration_opens, age_calc_base_date, event_type, distance, distance_text, volunteer, require_dob, require_phone, is_bundle, sub_event_ids, gone_at, payload OR TRUNCATE ON public.runsignup_events FOR EACH STATEMENT WHEN ((current_setting('application_name'::text) !~~ 'rsu %'::text)) EXECUTE FUNCTION public.rsu_note_foreign_write();

CREATE TRIGGER note_foreign_write AFTER INSERT OR DELETE OR UPDATE OF race_id, event_id, timing_partner_id, registration_id, user_id, first_name, middle_name, last_name, email, dob, gender, phone, profile_image_url, bib_num, chip_num, age, registration_date, registered_at, last_modified, last_modified_epoch, address, team_info, payment_info, additional_data, payload, first_bib, removed_at, removed_reason, removed_epoch, new_registration_id, seal, corral, wave, estimated_finish, checked_in_at, coupon_code, coupon_discount, corporate_team, registration_notes, answers, addons, memberships OR TRUNCATE ON public.runsignup_participants FOR EACH STATEMENT WHEN ((current_setting('application_name'::text) !~~ 'rsu %'::text)) EXECUTE FUNCTION public.rsu_note_foreign_write();

CREATE TRIGGER note_foreign_write AFTER INSERT OR DELETE OR UPDATE OF race_id, timing_partner_id, name, description, last_date, last_end_date, next_date, next_end_date, created, last_modified, is_draft_race, is_private_race, is_registration_open, real_time_notifications_enabled, url, external_race_url, external_results_url, logo_url, fb_page_id, fb_event_id, timezone, address, payload, detail_as_of OR TRUNCATE ON public.runsignup_races FOR EACH STATEMENT WHEN ((current_setting('application_name'::text) !~~ 'rsu %'::text)) EXECUTE FUNCTION public.rsu_note_foreign_write();

CREATE TRIGGER notify_bib_changes AFTER INSERT ON public.runsignup_bib_changes REFERENCING NEW TABLE AS logged FOR EACH STATEMENT EXECUTE FUNCTION public.rsu_notify_bib_changes();

CREATE TRIGGER notify_participant AFTER UPDATE ON public.runsignup_participants FOR EACH ROW WHEN (((old.removed_at IS DISTINCT FROM new.removed_at) OR (old.removed_reason IS DISTINCT FROM new.removed_reason) OR (old.new_registration_id IS DISTINCT FROM new.new_registration_id) OR (old.event_id IS DISTINCT FROM new.event_id) OR (old.local_bib IS DISTINCT FROM new.local_bib) OR ((new.seal IS NULL) AND (old.changed_at IS DISTINCT FROM new.changed_at)))) EXECUTE FUNCTION public.rsu_notify_participant();

CREATE TRIGGER queue_bib_changes AFTER INSERT ON public.runsignup_bib_changes REFERENCING NEW TABLE AS logged FOR EACH STATEMENT EXECUTE FUNCTION public.rsu_queue_bib_changes();

CREATE TRIGGER queue_registration AFTER UPDATE ON public.runsignup_participants FOR EACH ROW WHEN ((((old.removed_at IS NULL) <> (new.removed_at IS NULL)) OR (old.removed_reason IS DISTINCT FROM new.removed_reason) OR (old.new_registration_id IS DISTINCT FROM new.new_registration_id))) EXECUTE FUNCTION public.rsu_queue_registration();

CREATE TRIGGER queue_start_list AFTER INSERT OR UPDATE ON public.start_lists FOR EACH ROW EXECUTE FUNCTION public.rsu_queue_start_list();

CREATE TRIGGER touch_updated_at BEFORE UPDATE ON public.partner_provider_credentials FOR EACH ROW EXECUTE FUNCTION public.rsu_touch_updated_at();

CREATE TRIGGER touch_updated_at BEFORE UPDATE ON public.timing_partners FOR EACH ROW EXECUTE FUNCTION public.rsu_touch_updated_at();

ALTER TABLE ONLY public.bib_push_events
    ADD CONSTRAINT bib_push_events_timing_partner_id_fkey FOREIGN KEY (timing_partner_id) REFERENCES public.timing_partners(timing_partner_id);

ALTER TABLE ONLY public.bib_pushes
    ADD CONSTRAINT bib_pushes_timing_partner_id_fkey FOREIGN KEY (timing_partner_id) REFERENCES public.timing_partners(timing_partner_id);

ALTER TABLE ONLY public.erased_registrations
    ADD CONSTRAINT erased_registrations_erased_user_id_fkey FOREIGN KEY (erased_user_id) REFERENCES public.erased_users(erased_user_id);

ALTER TABLE ONLY public.erased_registrations
    ADD CONSTRAINT erased_registrations_timing_partner_id_fkey FOREIGN KEY (timing_partner_id) REFERENCES public.timing_partners(timing_partner_id);

ALTER TABLE ONLY public.erased_users
    ADD CONSTRAINT erased_users_timing_partner_id_fkey FOREIGN KEY (timing_partner_id) REFERENCES public.timing_partners(timing_partner_id);

ALTER TABLE ONLY public.event_cursors
    ADD CONSTRAINT event_cursors_event_id_fkey FOREIGN KEY (event_id) REFERENCES public.runsignup_events(event_id);

ALTER TABLE ONLY public.event_cursors
    ADD CONSTRAINT event_cursors_timing_partner_id_fkey FOREIGN KEY (timing_partner_id) REFERENCES public.timing_partners(timing_partner_id);

ALTER TABLE ONLY public.future_events
    ADD CONSTRAINT future_events_event_id_fkey FOREIGN KEY (event_id) REFERENCES public.runsignup_events(event_id);

ALTER TABLE ONLY public.future_events
    ADD CONSTRAINT future_events_timing_partner_id_fkey FOREIGN KEY (timing_partner_id) REFERENCES public.timing_partners(timing_partner_id);

ALTER TABLE ONLY public.history_events
    ADD CONSTRAINT history_events_event_id_fkey FOREIGN KEY (event_id) REFERENCES public.runsignup_events(event_id);

ALTER TABLE ONLY public.history_events
    ADD CONSTRAINT history_events_timing_partner_id_fkey FOREIGN KEY (timing_partner_id) REFERENCES public.timing_partners(timing_partner_id);

ALTER TABLE ONLY public.history_races
    ADD CONSTRAINT history_races_race_id_fkey FOREIGN KEY (race_id) REFERENCES public.runsignup_races(race_id);

ALTER TABLE ONLY public.history_races
    ADD CONSTRAINT history_races_timing_partner_id_fkey FOREIGN KEY (timing_partner_id) REFERENCES public.timing_partners(timing_partner_id);

ALTER TABLE ONLY public.history_requests
    ADD CONSTRAINT history_requests_timing_partner_id_fkey FOREIGN KEY (timing_partner_id) REFERENCES public.timing_partners(timing_partner_id);

ALTER TABLE ONLY public.partner_provider_credentials
    ADD CONSTRAINT partner_provider_credentials_api_key_id_fkey FOREIGN KEY (api_key_id) REFERENCES public.runsignup_api_keys(api_key_id);

ALTER TABLE ONLY public.partner_provider_credentials
    ADD CONSTRAINT partner_provider_credentials_provider_id_fkey FOREIGN KEY (provider_id) REFERENCES public.providers(provider_id);

ALTER TABLE ONLY public.partner_provider_credentials
    ADD CONSTRAINT partner_provider_credentials_timing_partner_id_fkey FOREIGN KEY (timing_partner_id) REFERENCES public.timing_partners(timing_partner_id);

ALTER TABLE ONLY public.partner_races
    ADD CONSTRAINT partner_races_race_id_fkey FOREIGN KEY (race_id) REFERENCES public.runsignup_races(race_id);

ALTER TABLE ONLY public.partner_races
    ADD CONSTRAINT partner_races_timing_partner_id_fkey FOREIGN KEY (timing_partner_id) REFERENCES public.timing_partners(timing_partner_id);

ALTER TABLE ONLY public.pass_counts
    ADD CONSTRAINT pass_counts_event_id_fkey FOREIGN KEY (event_id) REFERENCES public.runsignup_events(event_id);

ALTER TABLE ONLY public.pass_counts
    ADD CONSTRAINT pass_counts_timing_partner_id_race_id_mode_fkey FOREIGN KEY (timing_partner_id, race_id, mode) REFERENCES public.read_passes(timing_partner_id, race_id, mode) ON DELETE CASCADE;

ALTER TABLE ONLY public.pass_registrations
    ADD CONSTRAINT pass_registrations_timing_partner_id_race_id_mode_fkey FOREIGN KEY (timing_partner_id, race_id, mode) REFERENCES public.read_passes(timing_partner_id, race_id, mode) ON DELETE CASCADE;

ALTER TABLE ONLY public.privacy_log
    ADD CONSTRAINT privacy_log_timing_partner_id_fkey FOREIGN KEY (timing_partner_id) REFERENCES public.timing_partners(timing_partner_id);

ALTER TABLE ONLY public.quarantined_rows
    ADD CONSTRAINT quarantined_rows_timing_partner_id_fkey FOREIGN KEY (timing_partner_id) REFERENCES public.timing_partners(timing_partner_id);

ALTER TABLE ONLY public.read_passes
    ADD CONSTRAINT read_passes_timing_partner_id_fkey FOREIGN KEY (timing_partner_id) REFERENCES public.timing_partners(timing_partner_id);

ALTER TABLE ONLY public.read_passes
    ADD CONSTRAINT read_passes_timing_partner_id_race_id_fkey FOREIGN KEY (timing_partner_id, race_id) REFERENCES public.partner_races(timing_partner_id, race_id);

ALTER TABLE ONLY public.refused_events
    ADD CONSTRAINT refused_events_event_id_fkey FOREIGN KEY (event_id) REFERENCES public.runsignup_events(event_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.refused_events
    ADD CONSTRAINT refused_events_timing_partner_id_fkey FOREIGN KEY (timing_partner_id) REFERENCES public.timing_partners(timing_partner_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.runsignup_bib_changes
    ADD CONSTRAINT runsignup_bib_changes_timing_partner_id_fkey FOREIGN KEY (timing_partner_id) REFERENCES public.timing_partners(timing_partner_id);

ALTER TABLE ONLY public.runsignup_events
    ADD CONSTRAINT runsignup_events_race_id_fkey FOREIGN KEY (race_id) REFERENCES public.runsignup_races(race_id);

ALTER TABLE ONLY public.runsignup_events
    ADD CONSTRAINT runsignup_events_timing_partner_id_fkey FOREIGN KEY (timing_partner_id) REFERENCES public.timing_partners(timing_partner_id);

ALTER TABLE ONLY public.runsignup_races
    ADD CONSTRAINT runsignup_races_timing_partner_id_fkey FOREIGN KEY (timing_partner_id) REFERENCES public.timing_partners(timing_partner_id);

ALTER TABLE ONLY public.schema_drift
    ADD CONSTRAINT schema_drift_timing_partner_id_fkey FOREIGN KEY (timing_partner_id) REFERENCES public.timing_partners(timing_partner_id);

ALTER TABLE ONLY public.start_list_entries
    ADD CONSTRAINT start_list_entries_timing_partner_id_event_id_fkey FOREIGN KEY (timing_partner_id, event_id) REFERENCES public.start_lists(timing_partner_id, event_id);

ALTER TABLE ONLY public.start_lists
    ADD CONSTRAINT start_lists_event_id_fkey FOREIGN KEY (event_id) REFERENCES public.runsignup_events(event_id);

ALTER TABLE ONLY public.start_lists
    ADD CONSTRAINT start_lists_timing_partner_id_fkey FOREIGN KEY (timing_partner_id) REFERENCES public.timing_partners(timing_partner_id);

ALTER TABLE ONLY public.sync_history
    ADD CONSTRAINT sync_history_provider_id_fkey FOREIGN KEY (provider_id) REFERENCES public.providers(provider_id);

ALTER TABLE ONLY public.sync_history
    ADD CONSTRAINT sync_history_timing_partner_id_fkey FOREIGN KEY (timing_partner_id) REFERENCES public.timing_partners(timing_partner_id);

ALTER TABLE ONLY public.webhook_messages
    ADD CONSTRAINT webhook_messages_webhook_id_fkey FOREIGN KEY (webhook_id) REFERENCES public.webhooks(webhook_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.webhooks
    ADD CONSTRAINT webhooks_timing_partner_id_fkey FOREIGN KEY (timing_partner_id) REFERENCES public.timing_partners(timing_partner_id);
