"""Automatic masks: every object of an image, as the official generator finds them."""
