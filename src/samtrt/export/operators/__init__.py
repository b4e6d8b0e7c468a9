"""The operators of our own in exported graphs, one file each; `registry` lists them."""
