"""From an image and prompts to the model's frame."""
