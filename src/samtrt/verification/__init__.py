"""The proof that engines give the checkpoint's masks."""
