"""The names of the official package, so that code written for it runs with one import changed."""
