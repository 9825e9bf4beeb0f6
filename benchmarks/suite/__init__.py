"""The performance suite: what a user will get, up to 10 million memories, and whether we got slower."""
