"""Reliability: what is promised, under fire.

`crash` ends every part of the machinery at exact instants with SIGKILL, `faults` lets its disk be full or
broken there, `concurrency` lets many write, read and build at once, `clocks` lets clocks lie. After each of
them a witness that knows nothing of the package looks at the files: what was acknowledged is there once, and
nothing is left behind.
"""
