"""Fuzzing: what reads the texts of others is given a million of them (docs/fuzzing.md)."""
