"""Parts of what moves the weights: gradients, flat memory, update rules, averages."""
