"""Keeps, prints and writes what was measured and found."""
