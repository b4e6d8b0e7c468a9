"""A plugin of napari: points and boxes in, labels out."""
