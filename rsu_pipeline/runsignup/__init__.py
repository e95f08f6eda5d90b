"""The RunSignup REST API client: calls, errors, paging, payloads. No Dagster, no SQL."""
