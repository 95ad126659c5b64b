"""Interfaces let people and programs in. Nothing imports an interface."""
