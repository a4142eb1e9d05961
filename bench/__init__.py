"""Benchmarks that run us and a reference side by side in one run, calls interleaved: `python -m bench`."""
