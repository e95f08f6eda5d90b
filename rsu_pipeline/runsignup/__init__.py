"""The RunSignup REST API as RunSignup has it: calls, errors, paging, payloads. No Dagster, no SQL."""
