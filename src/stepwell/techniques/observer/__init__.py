"""Techniques of the observer slot, one file each."""
