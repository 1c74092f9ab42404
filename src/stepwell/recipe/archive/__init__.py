"""Many runs, and models and weights on their way out and in."""
