"""Spreading activation and paths on graphs of associations, against `select 1` through the same client."""
