"""Images: where they come from, how they are packed, and the pack that everything reads."""
