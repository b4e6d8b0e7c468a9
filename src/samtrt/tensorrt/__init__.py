"""What building and running TensorRT engines share: versions, records, GPUs, the plugin library."""
