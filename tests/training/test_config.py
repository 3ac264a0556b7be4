"""A run's configuration: what it refuses, and that its digest tells runs apart."""

import math
from dataclasses import fields

import pytest

from svgan.errors import UserError
from svgan.systems.stylevideogan.critics import DESIGNS
from svgan.training import recipes, registry
from svgan.training.overrides import describe_fields, parse

SYSTEMS = {name: recipes.make(name).system for name in recipes.names()}
MADE = [(name, {}) for name in SYSTEMS] + [
    (name, {"critic": critic}) for name, system in SYSTEMS.items() if system == "codes" for critic in DESIGNS
]


@pytest.mark.parametrize(("name", "changes"), MADE)
def test_recipes_survive_json(name: str, changes: dict):
    config = recipes.make(name, seed=3, **changes)
    assert config.recipe == name
    assert registry.read_config(config.to_json()) == config
    assert registry.read_config(config.to_json()).digest() == config.digest()


def test_every_field_counts_in_the_digest():
    base = recipes.make("tiny")
    changes = dict(width=48, gap_weight=2, seed=1, critic="holistic", steps=1, trunk=(8,), precision="bfloat16")
    digests = {recipes.make("tiny", **{k: v}).digest() for k, v in changes.items()} | {base.digest()}
    assert len(digests) == len(changes) + 1
    assert len(base.digest()) == 12


def test_whole_and_broken_weights_are_one_configuration():
    assert recipes.make("tiny", gap_weight=100).digest() == recipes.make("tiny", gap_weight=100.0).digest()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("space", "z"),
        ("critic", "nonesuch"),
        ("precision", "float16"),
        ("iteration", "faster"),
        ("components", 0),
        ("components", None),
        ("width", 0),
        ("width", 32.0),
        ("noise", -1),
        ("batch", True),
        ("steps", 0),
        ("n_critic", "5"),
        ("window", 1),
        ("seed", -1),
        ("lr", 0),
        ("lr", math.nan),
        ("beta1", 1.0),
        ("gp_weight", math.inf),
        ("gap_weight", -1),
        ("gap_weight", "much"),
        ("ema", 1),
        ("trunk", ()),
        ("trunk", 64),
        ("critic_widths", (64, 0)),
    ],
)
def test_a_bad_field_is_named(field: str, value):
    with pytest.raises(UserError, match=f"^{field}: "):
        recipes.make("tiny", **{field: value})


def test_components_belong_to_pca_alone():
    assert recipes.make("tiny", space="wplus").components is None
    with pytest.raises(UserError, match="components"):
        recipes.make("paper", components=32)


def test_the_holistic_critic_needs_three_frames():
    with pytest.raises(UserError, match="window"):
        recipes.make("tiny", critic="holistic", window=2)


def test_unknown_recipe_and_fields():
    with pytest.raises(UserError, match="recipe: 'huge' is unknown; one of tiny, pca, paper"):
        recipes.make("huge")
    with pytest.raises(UserError, match="gap: no such field"):
        recipes.make("tiny", gap=3)
    with pytest.raises(UserError, match="trunk"):
        registry.read_config({k: v for k, v in recipes.make("tiny").to_json().items() if k != "trunk"})


def test_options_of_a_critic_belong_to_its_design():
    assert recipes.make("tiny", critic_kernel=7).critic_options() == {"kernel": 7}
    with pytest.raises(
        UserError, match="critic_kernel: critic 'holistic' has no such option; leave it out, or use tconv"
    ):
        recipes.make("tiny", critic="holistic", critic_kernel=5)
    for options in ({"critic_kernel": 4}, {"critic_kernel": True}, {"critic": "multiscale", "critic_rates": 4}):
        with pytest.raises(UserError, match=r"critic_\w+: .* is not one of"):
            recipes.make("tiny", **options)


def test_runs_of_before_there_were_options_are_the_same_runs():
    """Digests written by version 0.1.0: they name checkpoints and cached figures."""
    assert recipes.make("tiny", iteration="plain").digest() == "465be6fef04d"
    assert recipes.make("paper", critic="holistic").digest() == "8e27fb6de4b5"
    assert "critic_kernel" not in recipes.make("tiny").to_json()
    plain = recipes.make("tiny", iteration="plain")
    older = {name: value for name, value in plain.to_json().items() if name != "iteration"}
    assert registry.read_config(older) == plain
    assert registry.read_config(recipes.make("tiny", critic_kernel=7).to_json()).critic_kernel == 7
    assert recipes.make("tiny", critic_kernel=7).digest() != recipes.make("tiny").digest()


@pytest.mark.parametrize(
    "name", [name for name, system in SYSTEMS.items() if system == "codes" and name != "stylegan-v-codes"]
)
def test_an_iteration_is_part_of_a_run(name: str):
    plain, fast = (recipes.make(name, iteration=way) for way in ("plain", "fast"))
    assert registry.read_config(fast.to_json()).iteration == fast.to_json()["iteration"] == "fast"
    assert fast.digest() != plain.digest()


def test_gap_in_every_step_is_what_it_was_before_it_could_be_otherwise():
    assert "gap_every" not in recipes.make("tiny", gap_every=1).to_json()
    assert recipes.make("tiny", gap_every=1).digest() == recipes.make("tiny").digest()
    every = recipes.make("tiny", gap_every=4)
    assert every.digest() != recipes.make("tiny").digest()
    assert registry.read_config(every.to_json()) == every
    with pytest.raises(UserError, match="gap_every: must be a whole number of 1 or more, got 0"):
        recipes.make("tiny", gap_every=0)


def test_acyclic_motion_has_no_gap_and_no_iteration_by_hand():
    assert "motion" not in recipes.make("tiny").to_json()
    made = recipes.make("stylegan-v-codes")
    assert made.to_json()["motion"] == "acyclic"
    assert made.digest() != recipes.make("stylegan-v-codes", motion="gru").digest()
    with pytest.raises(UserError, match="gap_weight: 1, but GAP needs motion 'gru'"):
        recipes.make("stylegan-v-codes", gap_weight=1)
    for way in ("fast", "graph"):
        with pytest.raises(UserError, match=f"iteration: '{way}' needs motion 'gru', not 'acyclic'"):
            recipes.make("stylegan-v-codes", iteration=way)
    with pytest.raises(UserError, match="motion: 'lstm' is unknown; one of gru, acyclic"):
        recipes.make("tiny", motion="lstm")


def test_the_cross_domain_mode_at_full_size_is_the_released_codes():
    config = recipes.make("mocogan-hd-cross-full")
    assert (config.mode, config.matching_weight, config.contrastive_weight) == ("cross-domain", 5.0, 2.0)
    assert (config.image_widths, config.embedding, config.queue) == ((96, 192, 384, 768, 1536, 1536), 256, 4096)
    assert recipes.make("mocogan-hd-cross-full", form="paper").residual == "paper"


@pytest.mark.parametrize("name", recipes.names())
def test_every_field_is_documented_beneath_itself_and_listed_as_the_word_that_sets_it(name: str):
    config = recipes.make(name)
    listed = describe_fields(config)
    assert all(text.endswith(".") for text in listed.values()), listed
    assert recipes.make(name, **parse(list(listed))) == config
    assert {word.partition("=")[0] for word in listed} == {field.name for field in fields(config)} - {"recipe"}
