"""Parts of model techniques: what a model is made of, its first weights, and layers of our own."""
