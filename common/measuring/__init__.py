"""The measuring room: a network on its images, levels and repeats of a perturbation, and the files that hold the results."""
