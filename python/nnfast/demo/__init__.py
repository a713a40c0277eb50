"""The demos: ``digits``, a dense network in NumPy over nnfast; ``images``, a residual network of its layers."""
