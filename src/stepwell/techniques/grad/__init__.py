"""Techniques of the grad slot, one file each."""
