"""What a run leaves on the disk: one module for all reading and writing, and the formats that stand on it."""
