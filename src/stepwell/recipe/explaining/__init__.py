"""A job explained before anything is trained."""
