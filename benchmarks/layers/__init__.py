"""How the time of each layer grows: with all that is stored, and with what has changed."""
