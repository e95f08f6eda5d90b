"""Proof that a faulted sync converges: random programs of changes, faults and kills over real servers."""
