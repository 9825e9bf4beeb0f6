"""The cache of answers at a million responses: lookups, joins, inserts, uses, verification, size."""
