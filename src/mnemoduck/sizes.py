"""Numbers of bytes, for people."""


def format_bytes(size: float) -> str:
    """Return a size in the unit that says most; a KB has 1000 bytes."""
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("unreachable")
