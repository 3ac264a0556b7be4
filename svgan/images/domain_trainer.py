"""Train the pictures of a domain: StyleGAN2 generator and discriminator, and the encoder, together (ours).

pSp trains its encoder on a finished generator, which ten minutes of one subject and a small budget do not give. Here a
picture is encoded, rendered and compared, which trains the generator as much as the encoder. The discriminator judges
reconstructions and random subjects (mapping of z) alike.

A second critic, of latents, draws the mapping's W towards the encoder's `base` codes (ALAE's idea, Pidhorskyi et al.
2020), so that truncation and random subjects work. Codes are jittered, so that neighbouring codes render to
neighbouring pictures: a temporal GAN's codes never equal the encoder's.

Axes: B picture, L W+ layer, D width of W, S side in pixels.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from svgan.errors import NonFiniteLoss, UserError
from svgan.images import losses
from svgan.images.encoder import Encoder
from svgan.images.stylegan2 import Discriminator, Generator, StyleGAN2Config
from svgan.io.atomic import disk_errors, write_whole


@dataclass(frozen=True, kw_only=True)
class DomainConfig:
    """A domain's training run. Counts are optimiser steps; weights are relative to the reconstruction's 1."""

    steps: int = 8000
    batch: int = 16
    fakes: int = 8
    lr: float = 2e-3
    encoder_lr: float = 5e-4
    latent_lr: float = 1e-3
    decay: float = 0.3  # the last share of the steps, over which learning rates fall to a twentieth
    adversarial_from: int = 1200
    adversarial_every: int = 2  # the discriminator joins every n-th step: it costs as much as all the rest
    adversarial_weight: float = 0.06
    feature_weight: float = 0.3
    r1_gamma: float = 1.0
    r1_every: int = 16
    latent_weight: float = 0.1
    jitter: float = 0.02
    max_slope: float = 3.0  # gradients are clipped to this norm: an encoder step without it wrecked a run
    base_only: float = 0.25  # share of reconstructions from the base code alone
    code_weight: float = 2e-3
    delta_weight: float = 5e-3
    ema: float = 0.998
    first_share: float = 0.72  # of a batch, drawn from the first subject
    precision: str = "bfloat16"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UserError(f"steps: must be 1 or more, got {self.steps}")
        if not 0 < self.fakes <= self.batch:
            raise UserError(f"fakes: must be 1 to batch ({self.batch}), got {self.fakes}")
        if not 0 < self.decay <= 1:
            raise UserError(f"decay: must be above 0 and at most 1, got {self.decay}")

    def learning_rate_factor(self, step: int) -> float:
        """1, then a cosine down to 1/20 over the last `decay` of the steps; a warm-up of 100 steps."""
        warm = min(1.0, (step + 1) / 100)
        done = (step - self.steps * (1 - self.decay)) / (self.steps * self.decay)
        return warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0))))


@dataclass(frozen=True)
class Pictures:
    """Aligned crops of one subject: pixels uint8 [N, S, S, 3], weight float16 [N, S, S]."""

    pixels: Tensor
    weight: Tensor

    def batch(self, rows: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        """x [B, 3, S, S] in [-1, 1], channels last, and weight [B, 1, S, S]."""
        x = self.pixels[rows].to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
        return x.contiguous(memory_format=torch.channels_last), self.weight[rows, None].to(device).float()


class LatentCritic(nn.Sequential):
    """W [B, D] to a score [B]."""

    def __init__(self, d: int):
        super().__init__(
            nn.Linear(d, 256), nn.LeakyReLU(0.2), nn.Linear(256, 256), nn.LeakyReLU(0.2), nn.Linear(256, 1)
        )

    def forward(self, w: Tensor) -> Tensor:
        return super().forward(w).squeeze(1)


class DomainState:
    """All training state: networks, the averages of generator and encoder, optimisers, step."""

    def __init__(self, model: StyleGAN2Config, config: DomainConfig, device: torch.device):
        torch.manual_seed(config.seed)
        narrow = replace(model, channels={r: max(32, c * 2 // 3) for r, c in model.channels.items()})
        self.config, self.device, self.step = config, device, 0
        self.generator = Generator(model).to(device)
        self.encoder = Encoder(model).to(device)
        self.discriminator = Discriminator(narrow).to(device)
        self.latent_critic = LatentCritic(model.w_dim).to(device)
        self.ema_generator = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.ema_encoder = copy.deepcopy(self.encoder).eval().requires_grad_(False)
        self.rates = {
            "generator": config.lr,
            "encoder": config.encoder_lr,
            "discriminator": config.lr,
            "latent_critic": config.latent_lr,
        }
        momentum = {"generator": 0.5, "encoder": 0.5, "discriminator": 0.0, "latent_critic": 0.0}
        self.optimisers = {
            name: torch.optim.Adam(getattr(self, name).parameters(), lr=rate, betas=(momentum[name], 0.99))
            for name, rate in self.rates.items()
        }

    @property
    def modules(self) -> nn.ModuleDict:
        """All networks by name, for saving and loading."""
        names = [*self.rates, "ema_generator", "ema_encoder"]
        return nn.ModuleDict({name: getattr(self, name) for name in names})

    def save(self, folder: Path) -> None:
        """Write tensors and JSON aside and rename them. A kill or a full disk leaves the last good state. Raises
        UserError on a full disk.
        """
        tensors = {f"nets.{k}": v.contiguous() for k, v in self.modules.state_dict().items()}
        for name, optimiser in self.optimisers.items():
            for row, values in optimiser.state_dict()["state"].items():
                tensors |= {f"adam.{name}.{row}.{k}": v.contiguous() for k, v in values.items()}
        meta = {"step": str(self.step), "config": json.dumps(asdict(self.config))}
        with disk_errors(folder), write_whole(folder / "state.safetensors") as aside:
            save_file({k: v.clone() for k, v in tensors.items()}, aside, metadata=meta)

    def load(self, folder: Path) -> None:
        """Continue from the folder of `save`, with the configuration of this object."""
        tensors = load_file(folder / "state.safetensors", device=str(self.device))
        pick = lambda prefix: {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}  # noqa: E731
        self.modules.load_state_dict(pick("nets."))
        for name, optimiser in self.optimisers.items():
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in pick(f"adam.{name}.").items():
                row, field = key.split(".", 1)
                state.setdefault(int(row), {})[field] = value
            optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
        with safe_open(folder / "state.safetensors", "pt") as file:
            self.step = int(file.metadata()["step"])


def kept_steps(folder: Path) -> tuple[int, int] | None:
    """The steps done and the steps planned of the state in `folder`; None if there is none."""
    file = folder / "state.safetensors"
    try:
        with safe_open(file, "pt") as kept:
            facts = kept.metadata()
        return int(facts["step"]), int(json.loads(facts["config"])["steps"])
    except FileNotFoundError:
        return None
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file}: not a state of domain training ({error}); delete it to begin anew") from error


def train_domain(
    state: DomainState,
    subjects: list[Pictures],
    *,
    report: Callable[[int, dict[str, float]], None],
    report_every: int = 50,
    keep: Callable[[DomainState], None],
    keep_every: int = 500,
) -> None:
    """The training loop. `subjects[0]` is the domain's own; the others share the rest of each batch."""
    config, started, counted = state.config, time.monotonic(), state.step
    seen: dict[str, list[Tensor]] = {}
    while state.step < config.steps:
        rng = torch.Generator().manual_seed(config.seed * 1_000_003 + state.step)
        values = domain_step(state, subjects, rng)
        state.step += 1
        for key, value in values.items():
            seen.setdefault(key, []).append(value)
        if state.step % report_every == 0 or state.step == config.steps:
            means = {k: float(torch.stack(v).mean()) for k, v in seen.items()}
            if not all(math.isfinite(v) for v in means.values()):
                raise NonFiniteLoss(f"domain training: non-finite loss before step {state.step}: {means}")
            pace = (time.monotonic() - started) / (state.step - counted)
            report(state.step, means | {"seconds_a_step": pace})
            started, counted, seen = time.monotonic(), state.step, {}
        if state.step % keep_every == 0 or state.step == config.steps:
            keep(state)


def draw(subjects: list[Pictures], config: DomainConfig, rng: torch.Generator, device) -> tuple[Tensor, Tensor]:
    """A batch of pictures [B, 3, S, S] and weights [B, 1, S, S] over all subjects."""
    first = config.batch if len(subjects) == 1 else round(config.batch * config.first_share)
    counts = [first] + [len(c) for c in np.array_split(np.arange(config.batch - first), max(1, len(subjects) - 1))]
    parts = [
        subject.batch(torch.randint(len(subject.pixels), (n,), generator=rng), device)
        for subject, n in zip(subjects, counts, strict=False)
        if n
    ]
    order = torch.randperm(config.batch, generator=rng).to(device)
    return torch.cat([x for x, _ in parts])[order], torch.cat([w for _, w in parts])[order]


def domain_step(state: DomainState, subjects: list[Pictures], rng: torch.Generator) -> dict[str, Tensor]:
    """One step of all networks; returns detached losses."""
    config, device = state.config, state.device
    generator, encoder, discriminator = state.generator, state.encoder, state.discriminator
    for name, optimiser in state.optimisers.items():
        optimiser.param_groups[0]["lr"] = state.rates[name] * config.learning_rate_factor(state.step)
    adversarial = state.step >= config.adversarial_from and state.step % config.adversarial_every == 0
    amp = torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16")
    x, weight = draw(subjects, config, rng, device)
    z = torch.randn(config.fakes, generator.config.w_dim, generator=rng).to(device)
    out: dict[str, Tensor] = {}

    # Generator, mapping and encoder.
    with amp:
        base, delta = encoder.parts(x)
        keep = (torch.rand(len(x), 1, 1, generator=rng) >= config.base_only).to(device)
        codes = base[:, None] + delta * keep
        codes = codes + config.jitter * torch.randn(codes.shape, generator=rng).to(device)
        w = generator.map(z)
        y = generator(torch.cat([codes, generator.broadcast(w)]) if adversarial else codes, "none").float()
        rebuilt = y[: len(x)]
        loss = out["reconstruction"] = losses.reconstruction(x, rebuilt, weight)
        loss = loss + config.code_weight * base.square().mean() + config.delta_weight * delta.square().mean()
        out["latent_generator"] = -state.latent_critic(w).mean()
        loss = loss + config.latent_weight * out["latent_generator"]
        if adversarial:
            half = len(x) // 2
            judged = losses.augment(torch.cat([x[:half], rebuilt[:half], y[len(x) :]]), rng)
            maps = discriminator.features(judged)
            out["adversarial"] = losses.logistic_generator(discriminator.head(maps[-1][half:]).float())
            out["features"] = losses.feature_matching([m[:half] for m in maps], [m[half : 2 * half] for m in maps])
            loss = loss + config.adversarial_weight * out["adversarial"] + config.feature_weight * out["features"]
    discriminator.requires_grad_(False)
    state.optimisers["generator"].zero_grad(set_to_none=True)
    state.optimisers["encoder"].zero_grad(set_to_none=True)
    loss.backward()
    discriminator.requires_grad_(True)
    for name, network in (("generator", generator), ("encoder", encoder)):
        out[f"{name}_slope"] = nn.utils.clip_grad_norm_(network.parameters(), config.max_slope)
        state.optimisers[name].step()

    # Latent critic: the encoder's base codes are real, the mapping's are fake (WGAN-GP).
    out["latent_critic"] = _latent_critic_step(state, base.detach().float(), rng)

    if adversarial:  # Discriminator: footage is real; reconstructions and random subjects are fake.
        state.optimisers["discriminator"].zero_grad(set_to_none=True)
        fake = torch.cat([rebuilt[half:], y[len(x) :]]).detach()
        pictures = losses.augment(torch.cat([x, fake]), rng)
        with amp:
            last = discriminator.features(pictures)[-1]
            real_logits = discriminator.head(last[: len(x)]).float()
            fake_logits = discriminator.head(last[len(x) :]).float()
            loss = losses.logistic_discriminator(real_logits, fake_logits)
        out["discriminator"], out["real_sign"] = loss.detach(), real_logits.detach().sign().mean()
        total, _ = losses.with_lazy_r1(
            loss, discriminator, pictures[: len(x)], step=state.step, gamma=config.r1_gamma, every=config.r1_every
        )
        total.backward()
        state.optimisers["discriminator"].step()

    _average(state, generator.map(torch.randn(256, z.shape[1], generator=rng).to(device)).detach().mean(0))
    return {k: v.detach() for k, v in out.items()}


def _latent_critic_step(state: DomainState, real: Tensor, rng: torch.Generator) -> Tensor:
    critic = state.latent_critic
    z = torch.randn(real.shape, generator=rng).to(real.device)
    with torch.no_grad():
        fake = state.generator.map(z)
    eps = torch.rand(len(real), 1, generator=rng).to(real.device)
    between = (eps * real + (1 - eps) * fake).requires_grad_(True)
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    penalty = (slope.norm(dim=1) - 1).square().mean()
    loss = critic(fake).mean() - critic(real).mean() + 10 * penalty
    state.optimisers["latent_critic"].zero_grad(set_to_none=True)
    loss.backward()
    state.optimisers["latent_critic"].step()
    return loss.detach()


@torch.no_grad()
def _average(state: DomainState, w_mean: Tensor) -> None:
    """Update the exponential averages of the weights (with a ramp), and of w."""
    decay = min(state.config.ema, (1 + state.step) / (10 + state.step))
    state.generator.w_avg.lerp_(w_mean.float(), 0.005)
    for live, averaged in ((state.generator, state.ema_generator), (state.encoder, state.ema_encoder)):
        torch._foreach_lerp_(list(averaged.parameters()), [p.detach() for p in live.parameters()], 1 - decay)
        for kept, now in zip(averaged.buffers(), live.buffers(), strict=True):
            kept.copy_(now)
