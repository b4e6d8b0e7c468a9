"""`samtrt build`: from exported graphs to TensorRT engines."""
