"""What nnfast's kernels compute, in plain NumPy, written to be read: the oracle of the tests and of the benchmarks."""
