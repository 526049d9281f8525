"""Benchmarks: speed of the program and of its parts, and of peers on the same tasks."""
