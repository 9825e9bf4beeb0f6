"""The mechanisms of memory against what experiments on people have found."""
