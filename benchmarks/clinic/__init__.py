"""The clinic: training setups with a known fault, and healthy ones, on which the doctor is scored."""

SETS = ("rules_seen", "held_out", *(f"round_{number}" for number in range(1, 8)))
"""Packages of cases. Rules were tuned on the first, never on the second. A round was written by people who had not read the
rules, and scored once before any rule was mended by it."""
