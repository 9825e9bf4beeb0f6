"""Expectations on what arrives and on what is about to be published: see docs/expectations.md."""
