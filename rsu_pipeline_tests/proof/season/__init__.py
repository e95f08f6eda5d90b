"""A season in simulated time: several partners, shared races, editions that come and pass, downtime, clocks that are off."""
