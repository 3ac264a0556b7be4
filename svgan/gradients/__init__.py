"""The gradients of a step's losses, in two ways that are equal: `PLAIN`, by automatic differentiation alone, is what
the formulas say; `FAST`, by hand where that saves work, is what training uses (tests/gradients compares them).
"""

from svgan.gradients.fast import Fast
from svgan.gradients.found import Found, Gradients
from svgan.gradients.plain import Plain

FAST, PLAIN = Fast(), Plain()

__all__ = ["FAST", "PLAIN", "Found", "Gradients"]
