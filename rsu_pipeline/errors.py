"""The errors that the operator sees as one sentence.

The tree:

    RsuError
    ├─ SettingsError
    ├─ BibPushError                warehouse.bib_pushes
    ├─ ChildFailed                 local.supervisor
    ├─ ApiError                    runsignup.api_errors
    │  └─ BudgetExhausted
    ├─ CredentialRejected          sync.session
    ├─ DatabaseError               warehouse.addresses
    │  ├─ ReadOnlyError            warehouse.addresses
    │  ├─ UnreachableError         warehouse.database
    │  ├─ SchemaVersionError       warehouse.schema_version
    │  ├─ StatementError           warehouse.statement_errors
    │  ├─ ClientProgramError       local.client_programs
    │  ├─ DumpError                local.dumps
    │  └─ AdoptionRefusedError     adoption.steps
    ├─ EmbeddedError               local.pg_binaries
    ├─ ExportError                 warehouse.export_queries
    ├─ LocalBibError               start_lists.local_bibs
    ├─ NoStartList                 start_lists.start_list_store
    ├─ PartnerError                warehouse.credentials
    ├─ PartnerFileError            cli.partner_file
    ├─ PrivacyError                warehouse.privacy
    ├─ ReadElsewhere               warehouse.race_locks
    ├─ ReadTooOld                  sync.bib_push
    ├─ RolesError                  warehouse.roles
    ├─ SecretKeyError              warehouse.secret_box
    ├─ SkippedPartner              orchestration.partner_runs
    └─ WebhookError                warehouse.webhook_store
"""


class RsuError(Exception):
    """An expected error. Its text names what is wrong, where, and the next step.

    Commands print it and exit with code 2, and runs fail with it without a traceback. Any other exception is a bug of this
    program and keeps its traceback.
    """


class SettingsError(RsuError):
    """A setting cannot be used. The text is one sentence: the variable, what is wrong, the next step."""
