"""A study in a simulated world: the real core, log and ASHA, driven as Tune drives them, and hurt at any effect."""

import dataclasses
import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from simulated_models import OBJECTIVE, Checkpoints, Files, MlflowModel, OptunaModel, RealOptuna
from simulated_world import Away, Crash, WorkerKilled, World

from sweeps.record.core import Core, Rules
from sweeps.record.entries import Driven, Ended, Proposed, Reported
from sweeps.record.log import Log, Superseded
from sweeps.record.patient_follower import PatientFollower
from sweeps.record.state import StudyState
from sweeps.search.asha import prunes

STEPS, EVERY, RUNGS, REDUCTION = 80, 10, (20, 40), 3
PROCESS_RETRIES = 3  # as sweeps.trial.controller.DRIVER_RETRIES: a trial whose process dies oftener is halted
MOST_TURNS = 100_000


@dataclasses.dataclass(frozen=True)
class Shape:
    """What kind of study it is. searched: a sampler proposes and ASHA prunes; else every trial is a control."""

    trials: int = 20
    concurrency: int = 1
    searched: bool = True
    stops: bool = True

    @property
    def same_as_undisturbed(self) -> bool:
        return self.concurrency == 1 or not self.searched


class ModelRules:
    """A sampler as a function of the record: a hash in place of Optuna, whose contract `test_contracts.py` checks."""

    def __init__(self, shape: Shape, seed: int) -> None:
        self.shape, self.seed = shape, seed

    def propose(self, state: StudyState) -> Proposed:
        number = len(state.trials)
        if state.queue:
            return Proposed(number=number, params=dict(state.queue[0].point), control=state.queue[0].control)
        seen = [(t.proposal.params["x"], t.ending, sorted(t.reports.items())) for t in state.trials]
        drawn = hashlib.sha256(json.dumps([self.seed, number, seen]).encode()).digest()
        return Proposed(number=number, params={"x": drawn[0] / 256})

    def prunes(self, state: StudyState, number: int, step: int, value: float) -> bool:
        rungs = RUNGS if self.shape.searched else ()
        return prunes(state, number, step, value, rungs=rungs, reduction=REDUCTION)


def merit(params: dict[str, Any], step: int) -> float:
    """The figure of a trial at a step; its running minimum is reported. Trial x = 13 / 16 and above diverges."""
    drawn = hashlib.sha256(f"{params['x']} {step}".encode()).digest()
    return params["x"] + 1 / step + drawn[0] / 512


class TakenOver(Exception):
    """Another driver takes the study over while this one lives: its host hangs, or its network is lost."""


class Study:
    """A study, its storage and services, and its drivers one after another, until it is finished.

    rules: makes those of a driver, real ones in place of the model's. optuna: the real one in place of the model.
    """

    def __init__(
        self,
        shape: Shape,
        world: World,
        rules: Callable[[], Rules] | None = None,
        optuna: OptunaModel | RealOptuna | None = None,
    ) -> None:
        self.shape, self.world = shape, world
        self.files, self.optuna, self.mlflow = (
            Files(world),
            optuna or OptunaModel(world),
            MlflowModel(world, self._stop),
        )
        self.checkpoints = Checkpoints(world)
        self.rules = rules or (lambda: ModelRules(self.shape, world.seed))
        self.stopping = False
        self.lives = 0
        self.zombies: list[TunePart] = []  # drivers that live on, though another one has taken the study over
        self.superseded = self.lost = 0  # zombies that have found that out, and their followers that were too slow
        self.overtaken = False  # a trial was halted because its process died too often, and later ones were proposed

    def core(self) -> Core:
        driver = f"driver-{self.lives}"
        optuna = PatientFollower(
            self.optuna,
            errors=(Away,),
            name="Optuna",
            patience=900.0,
            tell=lambda line: None,
            stop=self._stop,
            clock=self.world.clock,
        )
        core = Core(
            Log("study/record", self.files, driver, self.world.clock),
            self.rules(),
            trials=self.shape.trials,
            objectives=(OBJECTIVE,),
            followers=[optuna, self.mlflow],
            stopping=lambda: self.stopping,
        )
        points = [] if self.shape.searched else [{"x": n / self.shape.trials} for n in range(self.shape.trials)]
        if self.zombies and self.world.hits(0.5):  # between this driver's look at the record and its first entry
            self.zombie_acts()
        core.begin(Driven(driver=driver), points)
        return core

    def haunted(self) -> None:
        """A driver that was taken over decides something: it learns that it was, and changes nothing."""
        before = self.everything()
        self.zombie_acts()
        assert self.everything() == before, "a driver that was replaced has changed something"

    def zombie_acts(self) -> None:
        if not self.zombies[-1].lives_on():
            self.zombies.pop()

    def everything(self) -> str:
        record = len(self.files.folders["study/record"])
        return repr((record, self.optuna.shown(), self.mlflow.runs, self.mlflow.models, self.mlflow.outbox))

    def _stop(self, why: str) -> None:
        self.stopping = True

    def run(self) -> StudyState:
        """Drive until all trials have ended; whatever kills a driver, another one follows."""
        while True:
            self.lives += 1
            self.stopping = False
            assert self.lives < 2000, f"seed {self.world.seed}: the study never ends"
            try:
                core = self.core()
                TunePart(self, core).run()
                if not core.unfinished():
                    self.world.calm = True
                    core.reconcile()
                    for number in range(len(core.state.trials)):
                        self.mlflow.flush(number, wait=True)
                    return core.state
            except (Crash, Away, TakenOver):
                self.world.now += 60.0
            except Superseded:
                self.lost += 1  # to a zombie that was faster


class TunePart:
    """What Tune and Ray Train do with a driver's trials: places, workers, reports in order, restarts."""

    def __init__(self, study: Study, core: Core) -> None:
        self.study, self.core, self.world = study, core, study.world
        self.working: dict[int, Iterator[dict[str, Any]]] = {}
        self.queued: dict[int, deque[dict[str, Any]]] = {}
        self.deaths: dict[int, int] = {}
        self.over = False  # the core has no more to hand out

    def run(self) -> None:
        for _ in range(MOST_TURNS):
            acts: list[Any] = [(self.work, number) for number in self.working]
            acts += [(self.deliver, number) for number, queue in self.queued.items() if queue]
            if len(self.queued) < self.study.shape.concurrency and not self.over:
                acts.append((self.start, None))
            if not acts:
                return
            act, number = self.world.chance.choice(acts)
            self.world.now += self.world.chance.random()
            act(number)
            if self.study.shape.stops and self.world.hits(0.0005):
                self.study.stopping = True
            if self.study.zombies and self.world.hits(0.05):
                self.study.haunted()
            if self.world.hits(0.002):
                self.study.zombies.append(self)
                raise TakenOver
        raise AssertionError(f"seed {self.world.seed}: no end")

    def lives_on(self) -> bool:
        """Decide one thing more, without workers; return whether there will be more."""
        acts: list[Any] = [(self.deliver, number) for number, queue in self.queued.items() if queue]
        if len(self.queued) < self.study.shape.concurrency and not self.over:
            acts.append((self.start, None))
        if not acts:
            return False
        act, number = self.world.chance.choice(acts)
        try:
            act(number)
        except Superseded:
            self.study.superseded += 1
            return False
        except (Crash, Away):
            return False
        return True

    def start(self, _: None) -> None:
        trial = self.core.next()
        if trial is None:
            self.over = True
            return
        self.queued[trial.number] = deque()
        self.working[trial.number] = self.trial(trial.number, trial.proposal.params)

    def work(self, number: int) -> None:
        """One stretch of a trial's worker, up to its next report."""
        try:
            result = next(self.working[number])
        except WorkerKilled:
            self.deaths[number] = self.deaths.get(number, 0) + 1
            if self.deaths[number] > PROCESS_RETRIES and self.world.hits(0.5):
                del self.working[number]
                self.queued[number].append({"died": True})
            else:  # Ray Train starts it again, from the checkpoint
                self.working[number] = self.trial(number, self.core.state.trials[number].proposal.params)
            return
        except Away as error:  # the storage: the controller halts the trial, and the driver all
            result = {"how": "halted", "why": str(error)}
        self.queued[number].append(result)
        if self.world.hits(0.02):
            self.queued[number].append(result)  # a retried message
        if "how" in result:
            del self.working[number]

    def deliver(self, number: int) -> None:
        """The driver takes in the oldest report: the scheduler decides, or the trial has ended."""
        result = self.queued[number].popleft()
        if "died" in result:
            self.study.overtaken = True
            self.end(number, "halted", result, reason="its process died")
        elif "how" in result:
            if "why" in result:
                self.study.stopping = True
            if result["how"] != "failed" and "step" in result:
                self.core.report(number, result["step"], result["value"], result["history"], last=True)
            self.end(number, result["how"], result, reason=result.get("reason", ""))
        elif self.core.report(number, result["step"], result["value"], result["history"]):
            self.end(number, "pruned", result)

    def end(self, number: int, how: Any, result: dict[str, Any], reason: str = "") -> None:
        self.working.pop(number, None)
        del self.queued[number]
        figures = {OBJECTIVE: result["value"]} if how == "finished" else {}
        self.core.end(number, how, result.get("step", 0), figures, reason)

    def trial(self, number: int, params: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """A trial's worker: rank 0 logs to MLflow, then keeps a checkpoint, then reports."""
        study, log = self.study, self.study.mlflow
        step, history = study.checkpoints.load(number)
        if history:  # a driver that died may have missed reports
            yield {"step": max(history), "value": min(history.values()), "history": history}
        while step < STEPS:
            if study.stopping:
                seen = {"value": min(history.values()), "step": max(history), "history": history} if history else {}
                yield {"how": "halted", **seen}
            step += EVERY
            value = merit(params, step)
            if params["x"] > 0.9 and step == 2 * EVERY:
                yield {"how": "failed", "step": step, "reason": "NonFiniteLoss"}
            best = min([value, *history.values()])
            if value == best:
                log.write(number, "model", True, step=step)
            log.write(number, "metrics", True, step=step, values={"latent_fd": value})
            history = history | {step: best}
            study.checkpoints.save(number, step, history)
            yield {"step": step, "value": best, "history": history}
        best = min(history.values())
        log.write(number, "metrics", True, step=step, values={"fvd_long": 100 * best})
        yield {"how": "finished", "step": step, "value": best, "history": history}


def replayed(study: Study) -> None:
    """Every proposal and every stop in the record is what the rules say of the entries before it."""
    rules = study.rules()
    entries, state = Log("study/record", study.files, "reader").read(), StudyState()
    for entry in entries:
        if isinstance(entry, Proposed):
            assert rules.propose(state) == entry
        if isinstance(entry, Reported):
            last = entry.step == STEPS
            stop = not last and rules.prunes(state, entry.number, entry.step, entry.value)
            assert stop == entry.stop, entry
        state.apply(entry)


def agreed(study: Study, state: StudyState) -> None:
    """Record, Optuna and MLflow say the same; nothing is there twice, nothing is lost."""
    assert len(state.trials) == study.shape.trials
    ends = [entry for entry in Log("study/record", study.files, "reader").read() if isinstance(entry, Ended)]
    assert sorted(entry.number for entry in ends) == list(range(study.shape.trials)), "each trial ends once"
    assert [OptunaModel.wanted(trial) for trial in state.trials] == study.optuna.shown()
    assert not study.optuna.anew, "Optuna followed the record all the time"
    runs = {run["trial"]: run for run in study.mlflow.runs}
    assert len(runs) == len(study.mlflow.runs) == study.shape.trials, "a run per trial"
    models = [model for model in study.mlflow.models if model["trial"] >= 0]  # others were deleted
    keys = [(model["trial"], model["step"]) for model in models]
    assert len(set(keys)) == len(keys), "a model twice"
    assert all(model["ready"] for model in models)
    assert not any(study.mlflow.outbox.values())
    for trial in state.trials:
        run, params = runs[trial.number], trial.proposal.params
        assert run["outcome"] == trial.ending
        assert run["status"] != "RUNNING"
        for step in trial.reports:
            assert run["metrics"]["latent_fd", step] == merit(params, step)
            if trial.reports[step] == merit(params, step):
                assert (trial.number, step) in keys
        if trial.ending == "finished":
            assert sorted(trial.reports) == list(range(EVERY, STEPS + 1, EVERY))
            assert run["metrics"]["fvd_long", STEPS] == 100 * min(trial.reports.values())


def summary(state: StudyState) -> list[Any]:
    """What an undisturbed study must have alike: parameters, reports, endings, figures."""
    return [
        (t.proposal.params, t.reports, t.ended.ending, t.ended.figures, t.ended.reason)
        for t in state.trials
        if t.ended is not None
    ]


def shape_of(seed: int) -> Shape:
    return Shape(concurrency=(1, 1, 2, 4)[seed % 4], searched=seed % 3 != 0)


def check(seed: int, faults: float = 0.02, make: Callable[[Shape, World], Study] = Study) -> Study:
    """One schedule: a study that the seed disturbs, with everything that must hold. Raises AssertionError."""
    shape = shape_of(seed)
    study = make(shape, World(seed, faults))
    state = study.run()
    agreed(study, state)
    replayed(study)
    if shape.same_as_undisturbed and not (shape.searched and study.overtaken):
        calm = make(shape, World(seed)).run()
        assert summary(state) == summary(calm)
    return study
