"""Budgets say what may be spent: whole units, allocated once, debited until nothing is left."""
