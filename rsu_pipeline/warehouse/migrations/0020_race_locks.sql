-- Syncs of one partner share its races. Numbers tell in which order reads began, whatever the clocks show.

ALTER TABLE read_passes ADD COLUMN read_number bigserial NOT NULL;
COMMENT ON COLUMN read_passes.read_number IS 'Of all reads of the hub, in the order in which they began. Requests for a read have numbers of the same sequence.';

ALTER TABLE event_cursors
    ADD COLUMN read_number bigint NOT NULL DEFAULT 0,
    ADD COLUMN full_read_number bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN event_cursors.read_number IS 'Number of the last complete read, removals included (see read_passes). A sync requested before it began need not read the event again.';
COMMENT ON COLUMN event_cursors.full_read_number IS 'Number of the last complete full read whose end was shown.';

ALTER TABLE timing_partners ADD COLUMN listing_number bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN timing_partners.listing_number IS 'Number of the last complete read of its races and events (see read_passes).';
