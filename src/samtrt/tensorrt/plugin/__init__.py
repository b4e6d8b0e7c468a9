"""The TensorRT plugin library of our CUDA kernels: its sources, compiling and loading."""
