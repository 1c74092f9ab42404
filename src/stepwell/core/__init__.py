"""Shared words: the types that every other layer speaks in. Imports torch and the standard library only."""
