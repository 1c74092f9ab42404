"""Techniques of the average slot, one file each."""
