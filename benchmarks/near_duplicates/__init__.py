"""Near-duplicates: what MinHash finds against all pairs, what is merged, and what it costs."""
