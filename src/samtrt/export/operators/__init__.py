"""The operators of our own in exported graphs."""
