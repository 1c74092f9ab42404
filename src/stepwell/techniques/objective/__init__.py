"""Techniques of the objective slot, one file each."""
