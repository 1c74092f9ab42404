"""Parts of objectives: targets and outputs in every shape, a user's loss, and what losses of one kind share."""
