"""What does every use of PyTorch here share?

Seeded generators, ranks, layers, the device and glibc's allocator.
"""
