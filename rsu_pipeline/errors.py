"""The base of every failure that the operator is told about in one sentence."""


class RsuError(Exception):
    """A foreseen failure. Its text says what is wrong, where and what to do. Commands print it and end with exit code 2,
    runs fail with it without a traceback. Any other exception is a fault of this program and keeps its traceback.

    The tree, by package:

        RsuError
        ├─ SettingsError
        ├─ processes.ChildFailed
        ├─ runsignup.errors.ApiError
        │  └─ BudgetExhausted
        ├─ sync.desk.CredentialRejected
        └─ warehouse
           ├─ addresses.DatabaseError
           │  ├─ database.UnreachableError
           │  ├─ schema_version.SchemaVersionError
           │  ├─ client_programs.ClientProgramError
           │  └─ adoption.steps.Refused
           ├─ credentials.PartnerError
           ├─ pg_binaries.EmbeddedError
           ├─ privacy.PrivacyError
           ├─ race_locks.ReadElsewhere
           ├─ roles.RolesError
           ├─ sealing.SecretKeyError
           └─ start_lists.NoStartList
    """


class SettingsError(RsuError):
    """A setting cannot be used. The text is one sentence: which variable, what is wrong, what to do."""
