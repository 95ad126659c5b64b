"""The ledger remembers: each decision once, in order, in a form that a stranger can verify."""
