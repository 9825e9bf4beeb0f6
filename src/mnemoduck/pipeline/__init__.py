"""The pipeline: load, build, test, publish."""
