"""Generators of documentation, and the measure of its language."""
