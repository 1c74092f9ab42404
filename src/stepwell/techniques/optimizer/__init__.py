"""Techniques of the optimizer slot, one file each."""
