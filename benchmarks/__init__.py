"""What stepwell is measured by: speed against peers in one run, and real numbers on real data. Not part of the package."""
