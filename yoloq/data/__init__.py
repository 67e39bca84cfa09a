"""Data sets: the yaml file, its images and labels, and loaders."""
