"""A world that a seed decides: its clock, who acts next, and what fails. Time passes only when the world says so."""

import random
from collections import Counter

# How often a service goes away, as a share of `faults`. Without the storage no driver goes on, so that is rarer.
GOES_AWAY = {"optuna": 0.5, "mlflow": 0.5, "storage": 0.05}


class Crash(Exception):
    """The driver's power is cut: nothing of its memory is left. No handler in the product catches it."""


class WorkerKilled(Exception):
    """A trial's worker is killed at this effect."""


class Away(OSError):
    """A service does not answer. The effect may have happened all the same."""


class World:
    """faults: the chance that an effect is hit; 0 gives the undisturbed study. crash_at: the number of the driver's
    effect at which it dies, as a test of every single one asks.
    """

    def __init__(self, seed: int, faults: float = 0.0, crash_at: int | None = None) -> None:
        self.seed, self.faults, self.crash_at = seed, faults, crash_at
        self.chance = random.Random(seed)
        self.now = 0.0
        self.effects: Counter[str] = Counter()
        self.driver_effects = 0
        self.away: dict[str, float] = {}  # services, and until when
        self.calm = False  # at the end, nothing fails any more, so that everything can be looked at

    def clock(self) -> float:
        return self.now

    def hits(self, chance: float) -> bool:
        return not self.calm and self.faults > 0 and self.chance.random() < chance

    def is_away(self, service: str) -> bool:
        return not self.calm and self.away.get(service, 0.0) > self.now

    def reaches(self, service: str) -> None:
        """Raises Away if the service does not answer: for reads, which change nothing."""
        if self.is_away(service):
            raise Away(f"{service} does not answer")

    def effect(self, name: str, worker: bool = False) -> None:
        """What may happen at an effect, before or after it: call it on both sides. name: 'service.operation'."""
        self.effects[name] += 1
        self.now += 0.01
        if not worker:
            self.driver_effects += 1
            if self.driver_effects == self.crash_at:
                raise Crash(f"at effect {self.driver_effects}, {name}")
        if self.calm:
            return
        service = name.partition(".")[0]
        if self.is_away(service):
            raise Away(f"{service} does not answer")
        if self.hits(self.faults):
            if worker:
                raise WorkerKilled(name)
            raise Crash(name)
        if self.hits(self.faults * GOES_AWAY[service]):
            self.away[service] = self.now + self.chance.expovariate(1 / 30)
            raise Away(f"{service} does not answer")
