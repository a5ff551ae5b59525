"""Judges: pure functions from readings and a budget to a verdict."""
