"""What all uses of PyTorch in svgan share.

Seeded generators, ranks, layers, the device and glibc's allocator.
"""
