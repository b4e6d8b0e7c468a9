"""From a checkpoint to engines, and the proof that they give the same masks."""
