"""The base of every error that the operator sees as one sentence."""


class RsuError(Exception):
    """An expected error. Its text names what is wrong, where, and the next step.

    Commands print it and exit with code 2, and runs fail with it without a traceback. Any other exception is a bug of this
    program and keeps its traceback.

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
    """A setting cannot be used. The text is one sentence: the variable, what is wrong, the next step."""
