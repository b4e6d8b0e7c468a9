"""Objects followed through videos, with SAM 2's memory."""
