"""Bit-packed XNOR-popcount kernels for binary neural networks; knows nothing of chains."""
