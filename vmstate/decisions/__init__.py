"""A decision is a pure function of the constitution, the leases, a command and a moment."""
