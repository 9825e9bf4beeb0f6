"""Tuning: what the history of a home says of its settings, and whether a change has helped."""
