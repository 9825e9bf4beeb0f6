"""What each profile of settings is worth beside the default, in rounds in which all take their turn."""
