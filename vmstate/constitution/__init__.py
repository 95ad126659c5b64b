"""The constitution says what may be held: by whom, by which rule, for how long."""
