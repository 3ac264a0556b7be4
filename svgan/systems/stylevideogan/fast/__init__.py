"""How can an iteration equal to the plain `step.iterate` take less time?

By closed-form gradients of critic and generator in place of autograd, and on a GPU by one CUDA graph per iteration.
"""

from svgan.systems.stylevideogan.fast import cuda_graph
from svgan.systems.stylevideogan.fast.step import iterate

__all__ = ["cuda_graph", "iterate"]
