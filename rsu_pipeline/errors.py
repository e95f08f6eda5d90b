"""The base of every failure that the operator is told about in one sentence."""


class RsuError(Exception):
    """A foreseen failure. Its text says what is wrong, where and what to do. Commands print it and end with exit code 2,
    runs fail with it without a traceback. Any other exception is a fault of this program and keeps its traceback.

    The tree:

        RsuError
        ├─ SettingsError
        ├─ ChildFailed                 processes
        ├─ ApiError                    runsignup.errors
        │  └─ BudgetExhausted
        ├─ CredentialRejected          sync.desk
        ├─ DatabaseError               warehouse.addresses
        │  ├─ UnreachableError         warehouse.database
        │  ├─ SchemaVersionError       warehouse.schema_version
        │  ├─ ClientProgramError       warehouse.client_programs
        │  └─ Refused                  warehouse.adoption.steps
        ├─ EmbeddedError               warehouse.pg_binaries
        ├─ NoStartList                 warehouse.start_lists
        ├─ PartnerError                warehouse.credentials
        ├─ PrivacyError                warehouse.privacy
        ├─ ReadElsewhere               warehouse.race_locks
        ├─ RolesError                  warehouse.roles
        └─ SecretKeyError              warehouse.sealing
    """


class SettingsError(RsuError):
    """A setting cannot be used. The text is one sentence: which variable, what is wrong, what to do."""
