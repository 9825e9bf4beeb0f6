"""Episodes: how quickly they are logged, learned from and suggested from, and what storing them takes."""
