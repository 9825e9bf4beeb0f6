"""Forgetting for good: what an order to forget names is taken out of every file, and that is shown.

`selection` says which events go, `purge` takes them out, `verification` looks for what may be left of them,
byte for byte and in what is decoded. What is searched for is in `passages`.
"""
