"""Remedies by theme: functions from a setup to a mended one."""
