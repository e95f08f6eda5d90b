"""Adoption: turn a database of the older program into this program's, in place and in one transaction.

`shape` reads the schema, `facts` counts its rows, `plan` decides what to do without a database, and `apply` does it. The
wanted schema is read from the migrations themselves. They run in a schema of their own within the same transaction, so the
two cannot drift apart. Tables keep their columns, and new ones are added beside them.
"""

from rsu_pipeline.adoption.apply import Report, adopt, server_zone, undo
from rsu_pipeline.adoption.plan import AdoptionRefusedError, Step

__all__ = ["AdoptionRefusedError", "Report", "Step", "adopt", "server_zone", "undo"]
