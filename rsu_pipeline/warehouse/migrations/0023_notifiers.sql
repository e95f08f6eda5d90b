-- A notifier that accepts nothing while others do is reported, and tried again by itself.

CREATE TABLE failing_notifiers (
    position integer PRIMARY KEY,
    scheme text NOT NULL,
    failing_since timestamptz NOT NULL,
    tried_at timestamptz NOT NULL,
    tries integer NOT NULL
);
COMMENT ON TABLE failing_notifiers IS 'Services of RSU_ALERT_URLS that did not accept the last message. A row goes when one is accepted.';
COMMENT ON COLUMN failing_notifiers.position IS 'Which one of RSU_ALERT_URLS, counted from 1. Addresses are secrets and are not stored.';
COMMENT ON COLUMN failing_notifiers.scheme IS 'Kind of service, as in its address before "://".';
COMMENT ON COLUMN failing_notifiers.failing_since IS 'When it first did not accept a message.';
COMMENT ON COLUMN failing_notifiers.tried_at IS 'When it was last sent a message.';
COMMENT ON COLUMN failing_notifiers.tries IS 'Messages in a row that it did not accept.';
