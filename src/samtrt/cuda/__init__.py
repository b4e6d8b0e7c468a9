"""CUDA without PyTorch: the runtime's calls, and memory as arrays."""
