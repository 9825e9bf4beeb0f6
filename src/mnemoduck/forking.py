"""Forks wait for what is imported at first use.

DuckDB imports pandas when it is first given a parameter, and Jinja its extensions when a template is first
made. A child that is forked while another thread does so inherits that module's import lock, which nobody
releases there, and hangs in its own first use.
"""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401
import os
import threading

first_use = threading.RLock()
"""Held while something is used that may import a module; a fork waits for it."""

os.register_at_fork(
    before=first_use.acquire, after_in_parent=first_use.release, after_in_child=first_use.release
)
