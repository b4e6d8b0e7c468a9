"""The backends that run TensorRT engines: contexts, memory, compiled kernels."""
