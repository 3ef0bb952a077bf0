"""Runs that differ in a named way, compared fairly."""
