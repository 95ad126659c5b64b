"""Leases say who holds what, and until when."""
