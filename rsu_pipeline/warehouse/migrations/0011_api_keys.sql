-- RunSignup limits calls by API key, so they are counted by API key, however many partners have it.

CREATE TABLE runsignup_api_keys (
    api_key_id serial PRIMARY KEY,
    fingerprint text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE runsignup_api_keys IS 'One row: an API key of RunSignup. The call ledger counts by it.';
COMMENT ON COLUMN runsignup_api_keys.api_key_id IS 'Surrogate key. It stays when the secret key is rotated.';
COMMENT ON COLUMN runsignup_api_keys.fingerprint IS 'Keyed digest of the API key (HMAC-SHA256 under a key derived from the secret key), as hexadecimal digits.';
COMMENT ON COLUMN runsignup_api_keys.created_at IS 'When the API key was first encrypted.';

ALTER TABLE partner_provider_credentials
    ADD COLUMN api_key_id integer REFERENCES runsignup_api_keys,
    ADD COLUMN shares_api_key boolean NOT NULL DEFAULT false;
CREATE INDEX partner_provider_credentials_api_key_id ON partner_provider_credentials (api_key_id);
COMMENT ON COLUMN partner_provider_credentials.partner_provider_credential_id IS 'Number of the credential.';
COMMENT ON COLUMN partner_provider_credentials.api_key_id IS 'The API key in principal. NULL until it is encrypted.';
COMMENT ON COLUMN partner_provider_credentials.shares_api_key IS 'Whether another partner is meant to have the same API key. False again when the API key changes.';

ALTER TABLE api_calls ADD COLUMN api_key_id integer;
CREATE INDEX api_calls_of_api_key ON api_calls (api_key_id, granted_at);
COMMENT ON COLUMN api_calls.credential_id IS 'The credential it was made with.';
COMMENT ON COLUMN api_calls.api_key_id IS 'The API key it counts against. NULL for calls made before the API key was known.';

-- Another principal is another API key until the program has compared the two.
CREATE FUNCTION rsu_forget_api_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.principal IS DISTINCT FROM OLD.principal THEN
        NEW.api_key_id := NULL;
    END IF;
    IF NEW.principal IS DISTINCT FROM OLD.principal AND coalesce(NEW.principal, '') NOT LIKE 'sealed:%' THEN
        NEW.shares_api_key := NEW.shares_api_key AND NOT OLD.shares_api_key;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER forget_api_key BEFORE UPDATE OF principal ON partner_provider_credentials
    FOR EACH ROW EXECUTE FUNCTION rsu_forget_api_key();

-- A process that was started before this migration counts by credential and names no API key.
CREATE FUNCTION rsu_name_api_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.api_key_id := (
        SELECT c.api_key_id FROM partner_provider_credentials c
        WHERE c.partner_provider_credential_id = NEW.credential_id
    );
    RETURN NEW;
END $$;
CREATE TRIGGER name_api_key BEFORE INSERT ON api_calls
    FOR EACH ROW WHEN (NEW.api_key_id IS NULL) EXECUTE FUNCTION rsu_name_api_key();
