"""An iteration equal to the plain `step.iterate` in less time: what moves the weights is found by hand.

critic       scores, the gradient penalty and both their gradients: three passes through the critic, none of them twice
generator    the rollout's gradients and GAP's, all GRU cells at once
graph        the same operations as one launch, on a GPU
"""

from svgan.systems.stylevideogan.fast import cuda_graph
from svgan.systems.stylevideogan.fast.step import iterate

__all__ = ["cuda_graph", "iterate"]
