"""How quickly episodes are logged, learned from and suggested from, and that nothing of them is lost."""
