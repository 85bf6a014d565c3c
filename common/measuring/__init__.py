"""Measuring: a network on its images, levels and repeats, and the files that hold results."""
