"""The checklist's questions, one file each: a rule, its threshold and where that comes from."""
