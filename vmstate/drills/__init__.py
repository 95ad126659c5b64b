"""Drills prove it: the real engine on time that the drill moves."""
