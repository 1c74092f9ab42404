"""A job as a value: read strictly, validated, stored in one form, changed at a path, written back."""
