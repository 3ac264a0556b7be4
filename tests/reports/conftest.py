"""What this folder's tests share."""

from made_sampler import domain, sampler  # noqa: F401  (fixtures)
