"""A day of operation with an accelerated clock: what cron starts, what goes wrong, what readers see.

The commands are those of the crontab that `mnemoduck schedule` writes, started by `sh -c` at the minutes
that it names, on a clock that libfaketime sets: 144 short runs, the hourly, the nightly and the weekly
ones. Events arrive as they would have, some of them late; a test fails from noon on until what it found is
forgotten; the model server is killed at two and comes back at four; a long run by hand overlaps cron's.
"""
