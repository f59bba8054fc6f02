"""Decisions: pure functions of what was observed. No client, no clock, no randomness."""
