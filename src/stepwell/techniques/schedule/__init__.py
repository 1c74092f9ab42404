"""Techniques of the schedule slot, one file each."""
