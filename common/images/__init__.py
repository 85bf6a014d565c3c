"""The images' room: sources of images, how they are packed, and the pack that everything reads."""
