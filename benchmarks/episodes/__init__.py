"""Episodes: what storing them takes, and how fast they come in and go out."""
