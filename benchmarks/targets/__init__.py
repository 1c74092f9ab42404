"""One file per target: real data, an honest protocol, a recipe, and the bar for the mean over seeds."""
