"""Episodes: what agents did to carry out tasks, step by step, and how it ended."""
