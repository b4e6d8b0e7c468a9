"""Checkpoints: downloaded, read without running their code, recognised and loaded."""
