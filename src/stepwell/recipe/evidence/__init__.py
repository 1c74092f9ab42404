"""What is on record of a run, whether it still fits, and whether it comes out the same again."""
