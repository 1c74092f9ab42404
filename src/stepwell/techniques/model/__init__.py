"""Techniques of the model slot, one file each."""
