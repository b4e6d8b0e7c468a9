"""Masks: from low-res logits to the original size, to run lengths and to pictures."""
