-- The program before this one wrote API keys in clear into credentials_used. Here the column has partition keys alone.

UPDATE runsignup_races SET credentials_used = NULL WHERE credentials_used IS NOT NULL
    AND credentials_used NOT IN (SELECT partition_key FROM timing_partners WHERE partition_key IS NOT NULL);
UPDATE runsignup_events SET credentials_used = NULL WHERE credentials_used IS NOT NULL
    AND credentials_used NOT IN (SELECT partition_key FROM timing_partners WHERE partition_key IS NOT NULL);
UPDATE runsignup_participants SET credentials_used = NULL WHERE credentials_used IS NOT NULL
    AND credentials_used NOT IN (SELECT partition_key FROM timing_partners WHERE partition_key IS NOT NULL);
DO $$
BEGIN
    IF to_regclass('adopted_rows') IS NOT NULL THEN
        UPDATE adopted_rows SET "row" = "row" || '{"credentials_used": null}' WHERE "row" ->> 'credentials_used' IS NOT NULL;
    END IF;
END $$;
