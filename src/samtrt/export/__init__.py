"""From a checkpoint to ONNX graphs, in float32, half precision or int8."""
