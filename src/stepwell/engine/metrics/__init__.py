"""Metrics: sums and counts over an evaluation."""
