"""The only place where weights change: the step, and what runs it, evaluates it and saves it."""
