"""Techniques of the batch slot, one file each."""
