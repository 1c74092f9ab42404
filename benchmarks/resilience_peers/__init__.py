"""One short script for each trainer of `benchmarks.resilience`: how its documentation says to save and to resume."""
