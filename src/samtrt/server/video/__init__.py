"""Videos on the server: opened, pointed at, and followed frame by frame as somebody watches."""
