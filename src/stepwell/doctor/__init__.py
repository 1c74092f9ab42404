"""Why a training fails, what shows it, and what mends it."""
