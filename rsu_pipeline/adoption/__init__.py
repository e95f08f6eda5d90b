"""Adoption: a database that the older program made becomes this program's, in place and in one transaction.

`shape` reads what is there, `facts` counts its rows, `plan` decides what to do (without a database), `apply` does it. What
is wanted is read from the migrations themselves, run in a schema of their own within the same transaction, so the two
cannot drift apart. Tables keep their columns; what is ours comes beside.
"""

from rsu_pipeline.adoption.apply import Report, adopt, server_zone, undo
from rsu_pipeline.adoption.plan import AdoptionRefusedError, Step

__all__ = ["AdoptionRefusedError", "Report", "Step", "adopt", "server_zone", "undo"]
