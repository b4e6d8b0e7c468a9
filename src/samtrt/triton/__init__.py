"""Triton Inference Server: the model repository, what runs in its Python backend, and a client.

`repository` writes what Triton loads. `stage`, `prompted` and `automatic` are the models that run
within Triton, started there by the `model.py` files of a repository. `client` talks to them.
"""
