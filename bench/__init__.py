"""Benchmarks of nnfast: ``python -m bench`` from the repository's root, with nnfast installed."""
