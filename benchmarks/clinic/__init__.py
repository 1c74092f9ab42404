"""The clinic: training setups with a known fault, and healthy ones, on which the doctor is scored."""
