"""What patterns of episodes are worth: how many there are, what they say, and whether it holds on tasks not seen."""
