"""Monthly partitions against one table in time order, with and without the indexes that others recommend."""
