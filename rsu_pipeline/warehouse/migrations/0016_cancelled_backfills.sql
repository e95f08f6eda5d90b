-- A backfill that a person cancels stays cancelled until it is asked for again.

ALTER TABLE history_requests
    ADD COLUMN last_requested_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN run_id text,
    ADD COLUMN backfill_id text,
    ADD COLUMN cancelled_at timestamptz;
UPDATE history_requests SET last_requested_at = requested_at;
COMMENT ON COLUMN history_requests.last_requested_at IS 'When it was last asked for. A cancellation before that is of an earlier request.';
COMMENT ON COLUMN history_requests.run_id IS 'The run that asked last; NULL where it was asked for from a shell.';
COMMENT ON COLUMN history_requests.backfill_id IS 'Dagster''s number of the backfill that asked last; NULL where none did.';
COMMENT ON COLUMN history_requests.cancelled_at IS 'When a person cancelled it; NULL while it is wanted. Asking again clears it.';
