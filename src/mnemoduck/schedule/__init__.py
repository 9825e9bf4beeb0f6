"""The schedule of a home: when which rhythm runs, by cron or by systemd."""

from mnemoduck.schedule.times import Times

__all__ = ["Times"]
