"""What patterns of episodes are worth: how many there are, what they say, and if that holds elsewhere."""
