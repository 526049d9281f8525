"""Every configuration that ships composes, and every mistake is answered in one sentence."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from fpmd_mjx.config import load as configs
from fpmd_mjx.config import rules
from fpmd_mjx.config.schema import ALGORITHMS, Config, ConfigError, FpmdConfig
from fpmd_mjx.program import make_program


def refusal(*overrides: str) -> str:
    """The message with which a configuration is refused."""
    with pytest.raises(ConfigError) as caught:
        configs.load(list(overrides))
    return str(caught.value)


def is_one_sentence(message: str) -> bool:
    """On one line, with one end; dots inside of keys, numbers and '...' are no ends."""
    ends = [c for c, after in itertools.pairwise(message + " ") if c == "." and after == " "]
    return "\n" not in message and len(ends) == 1 and message.endswith(".")


# ------------------------------------------------------------------------------- what ships


@pytest.mark.parametrize("algorithm", configs.choices("algorithm"))
@pytest.mark.parametrize("preset", configs.choices("preset"))
def test_every_preset_loads_with_every_algorithm(preset: str, algorithm: str) -> None:
    config = configs.load([f"preset={preset}", f"algorithm={algorithm}"])
    assert (config.preset, config.algorithm.name) == (preset, algorithm)
    assert config.name == f"{preset}-s0"
    assert (
        config.env_steps <= config.epochs * config.iterations_per_epoch * config.steps_per_iteration
    )


@pytest.mark.parametrize("task", configs.choices("task"))
def test_every_task_loads(task: str) -> None:
    assert configs.load([f"task={task}"]).task.name == task


def test_the_groups_are_not_empty() -> None:
    assert {"paper", "cpu"} <= set(configs.choices("preset"))
    assert configs.choices("algorithm") == sorted(ALGORITHMS)
    assert "dmc/cartpole_swingup" in configs.choices("task")


def test_the_paper_preset_is_the_released_settings() -> None:
    """reference/algorithm.md, "Released settings"."""
    config = configs.load(["preset=paper", "algorithm=fpmd_r"])
    assert (config.env_steps, config.num_envs, config.warmup_steps) == (1_000_000, 5, 30_000)
    learn, algorithm = config.learn, config.algorithm
    assert isinstance(algorithm, FpmdConfig)
    assert (learn.updates, learn.collect_steps, learn.batch) == (1, 1, 256)
    assert (learn.replay, learn.gamma, learn.n_step) == (1_000_000, 0.99, 1)
    assert (learn.reward_scale, algorithm.policy_delay) == (0.2, 2)
    for net in (config.critic, config.actor):
        assert (net.hidden, net.activation, net.layer_norm) == ([256] * 3, "mish", False)
    assert (config.critic.kind, config.critic.lr, config.critic.tau) == ("scalar", 3e-4, 0.005)
    optim = config.actor
    assert (optim.lr, optim.final_lr) == (3e-4, 3e-5)
    assert (optim.decay_begin, optim.decay_end) == (25_000, 75_000)
    assert (algorithm.candidates, algorithm.weights) == (32, "submission")
    assert algorithm.stats_rate == 0.001
    assert (algorithm.noise.scale, algorithm.noise.init_alpha, algorithm.noise.lr) == (
        0.1,
        5.0,
        7e-3,
    )
    assert (algorithm.noise.interval, algorithm.noise.target_entropy) == (250, -1.5)
    assert (algorithm.flow_steps, algorithm.prior_std) == (20, 0.5)
    assert configs.load(["preset=paper", "algorithm=fpmd_m"]).algorithm.flow_steps == 1  # type: ignore


def test_the_paper_preset_from_pixels_is_the_released_settings() -> None:
    config = configs.load(["preset=paper_pixels"])
    assert config.env_steps * config.task.action_repeat == 1_000_000  # frames
    pixels = config.pixels
    assert (pixels.size, pixels.frames, pixels.shift) == (84, 3, 4)
    assert (pixels.channels, pixels.trunk, pixels.camera) == (32, 50, None)
    assert (config.learn.batch, config.learn.n_step, config.learn.reward_scale) == (256, 1, 1.0)
    assert config.algorithm.temperature == 1.0  # type: ignore[attr-defined]
    assert not config.learn.normalize_obs


@pytest.mark.parametrize("algorithm", ["fpmd_m", "fpmd_r"])
def test_the_wide_paper_preset_is_the_same_work_in_another_order(algorithm: str) -> None:
    paper = configs.load(["preset=paper", f"algorithm={algorithm}"])
    wide = configs.load(["preset=paper_wide", f"algorithm={algorithm}"])
    for config in (paper, wide):
        assert config.env_steps == 1_000_000
        assert config.learn.updates / config.steps_per_iteration == 1 / 5
    assert (wide.num_envs, wide.seeds) == (160, 8)
    for key in ("num_envs", "seeds", "epoch_steps", "preset", "name", "learn.updates"):
        *parents, last = key.split(".")
        setattr(functools.reduce(getattr, parents, wide), last, None)
        setattr(functools.reduce(getattr, parents, paper), last, None)
    assert wide == paper


def test_overrides_win_over_presets() -> None:
    config = configs.load(["learn.batch=17", "actor.hidden=[8,9]", "preset=paper", "name=x"])
    assert (config.learn.batch, config.actor.hidden, config.name) == (17, [8, 9], "x")
    assert str(config.folder) == "runs/dmc/cartpole_swingup/fpmd_m/x"


def test_epochs_cover_the_steps() -> None:
    config = configs.load(
        ["num_envs=7", "learn.collect_steps=3", "epoch_steps=100", "env_steps=1000",
         "warmup_steps=0"]
    )  # fmt: skip
    assert config.steps_per_iteration == 21
    assert config.iterations_per_epoch == 5  # 105 steps
    assert config.epochs == 10


# ---------------------------------------------------------------------------------- mistakes

MISTAKES: dict[str, tuple[list[str], list[str]]] = {
    # name: (overrides, what the message must contain: key, value, remedy)
    "unknown key": (["learn.bach=512"], ["learn.bach", "512", "learn.batch"]),
    "unknown section": (["lern.batch=512"], ["lern.batch", "512", "learn.batch"]),
    "key without its section": (["replay=9"], ["replay=9", "learn.replay"]),
    "added key": (["+foo=3"], ["+foo=3", "key=value"]),
    "forced key": (["++learn.bach=3"], ["++learn.bach=3", "key=value"]),
    "deleted key": (["~seeds"], ["~seeds", "key=value"]),
    "no value": (["seeds"], ["seeds", "key=value"]),
    "not an override": (["learn.batch=[1"], ["learn.batch=[1", "key=value"]),
    "word for a number": (["learn.batch=many"], ["learn.batch=many", "whole number"]),
    "fraction for a count": (["learn.batch=2.5"], ["learn.batch=2.5", "whole number"]),
    "null for a number": (["learn.gamma=null"], ["learn.gamma=null", "number"]),
    "truth for a count": (["seeds=true"], ["seeds=true", "whole number"]),
    "word for truth": (
        ["learn.normalize_obs=maybe"],
        ["learn.normalize_obs=maybe", "true or false"],
    ),
    "number for a list": (["actor.hidden=7"], ["actor.hidden=7", "[256,256]"]),
    "words in a list": (["actor.hidden=[a]"], ["actor.hidden=[a]", "[256,256]"]),
    "word for an optional": (["task.iterations=x"], ["task.iterations=x", "number or null"]),
    "value for a section": (["learn=3"], ["learn=3", "learn.gamma"]),
    "unknown task": (
        ["task=dmc/cartpole_swngup"],
        ["task=dmc/cartpole_swngup", "dmc/cartpole_swingup"],
    ),
    "unknown actor": (["algorithm=fpmd_x"], ["algorithm=fpmd_x", "fpmd_m"]),
    "unknown preset": (["preset=papr"], ["preset=papr", "paper"]),
    "name of another algorithm": (
        ["algorithm.name=fpmd_r"],
        ["algorithm.name=fpmd_r", "algorithm=fpmd_r"],
    ),
    "unknown critic": (["critic.kind=c51"], ["critic.kind=c51", "hl_gauss"]),
    "unknown weights": (["algorithm.weights=all"], ["algorithm.weights=all", "normalized"]),
    "unknown precision": (["learn.dtype=float16"], ["learn.dtype=float16", "bfloat16"]),
    "unknown backend": (["task.impl=cpp"], ["task.impl=cpp", "warp"]),
    "unknown graph mode": (
        ["task.graph_mode=jax"],
        ["task.graph_mode=jax", "null, warp, warp_staged, warp_staged_ex"],
    ),
    "graphs of the other backend": (
        ["task.graph_mode=warp_staged", "task.impl=jax"],
        ["task.graph_mode=warp_staged", "task.impl=jax", "task.impl=warp", "leave"],
    ),
    "unknown observations": (["task.obs=image"], ["task.obs=image", "pixels"]),
    "pixels of a task without a camera of its own": (
        ["task=gym/Ant-v5", "preset=cpu_pixels"],
        ["task.obs=pixels", "dmc/"],
    ),
    "normalised images": (
        ["preset=cpu_pixels", "learn.normalize_obs=true"],
        ["learn.normalize_obs=true", "leave it false"],
    ),
    "images too small to encode": (["pixels.size=19"], ["pixels.size=19", "at least 20"]),
    "stacks beyond the ring": (
        ["preset=cpu_pixels", "learn.replay=128", "learn.n_step=5"],
        ["learn.n_step=5", "128 // 16 = 8", "below 5", "raise learn.replay"],
    ),
    "no seeds": (["seeds=0"], ["seeds=0", "at least 1"]),
    "no environments": (["num_envs=0"], ["num_envs=0", "at least 1"]),
    "negative seed": (["seed=-1"], ["seed=-1", "from 0 to 4294967295"]),
    "seed beyond 32 bits": (["seed=4294967295", "seeds=2"], ["seed=4294967295", "2**32"]),
    "endless rate": (["critic.lr=inf"], ["critic.lr=inf", "finite"]),
    "endless support": (["critic.v_max=inf"], ["critic.v_max=inf", "finite"]),
    "negative noise": (
        ["algorithm.noise.scale=-0.1"],
        ["algorithm.noise.scale=-0.1", "above 0"],
    ),
    "target that is no number": (
        ["algorithm.noise.target_entropy=nan"],
        ["algorithm.noise.target_entropy=nan", "finite"],
    ),
    "decay upside down": (
        ["actor.decay_begin=9", "actor.decay_end=8"],
        ["actor.decay_begin=9", "actor.decay_end=8"],
    ),
    "name outside of the runs": (["name=../x"], ["name=../x", ".."]),
    "absolute name": (["name=/x"], ["name=/x", "leading /"]),
    "no noise": (["algorithm.noise.scale=0"], ["algorithm.noise.scale=0", "above 0"]),
    "solver that never begins": (["task.iterations=-3"], ["task.iterations=-3", "at least 1"]),
    "camera below the first": (
        ["preset=cpu_pixels", "pixels.camera=-9"],
        ["pixels.camera=-9", "at least 0"],
    ),
    "interval beyond the counter": (
        ["algorithm.noise.interval=10000000000"],
        ["algorithm.noise.interval=10000000000", "from 1 to 65535"],
    ),
    "delay beyond the counter": (
        ["algorithm.policy_delay=65536"],
        ["algorithm.policy_delay=65536", "from 1 to 65535"],
    ),
    "batch beyond 32 bits": (["learn.batch=2147483648"], ["learn.batch=2147483648", "at least 1"]),
    "power below one": (
        ["algorithm=fpmd_r", "algorithm.time_power=0.5"],
        ["algorithm.time_power=0.5", "at least 1"],
    ),
    "setting of another algorithm": (
        ["algorithm.time_power=2"],
        ["algorithm.time_power=2", "does nothing with algorithm=fpmd_m", "algorithm=fpmd_r"],
    ),
    "setting of another critic": (
        ["critic.bins=11"],
        ["critic.bins=11", "does nothing with critic.kind=scalar", "critic.kind=hl_gauss"],
    ),
    "setting of other weights": (
        ["algorithm.weights=submission", "algorithm.temperature=2"],
        [
            "algorithm.temperature=2.0",
            "does nothing with algorithm.weights=submission",
            "algorithm.weights=normalized or algorithm.weights=scaled",
        ],
    ),
    "images that nobody sees": (
        ["pixels.size=64"],
        ["pixels.size=64", "does nothing with task.obs=state", "task.obs=pixels"],
    ),
    "the old word for an algorithm": (
        ["actor=fpmd_m"],
        ["actor is now called algorithm", "algorithm=fpmd_m"],
    ),
    "a group that presets choose": (
        ["preset_algorithm=cpu-fpmd_m"],
        ["preset_algorithm=cpu-fpmd_m", "task, algorithm, preset", "leave it out"],
    ),
    "an old key": (
        ["improvement.candidates=8"],
        ["improvement.candidates is now called algorithm.candidates", "algorithm.candidates=8"],
    ),
    "warm-up beyond the replay": (
        ["warmup_steps=5000", "learn.replay=4000"],
        ["warmup_steps=5000", "3968", "raise learn.replay"],
    ),
    "no layers": (["actor.hidden=[]"], ["actor.hidden=[]", "[256,256]"]),
    "empty layer": (["critic.hidden=[64,0]"], ["critic.hidden=[64, 0]", "[256,256]"]),
    "gamma above one": (["learn.gamma=1.1"], ["learn.gamma=1.1", "between 0 and 1"]),
    "gamma that is no number": (["learn.gamma=nan"], ["learn.gamma=nan", "between 0 and 1"]),
    "no temperature": (["algorithm.temperature=0"], ["algorithm.temperature=0", "above 0"]),
    "support upside down": (["critic.v_min=200"], ["critic.v_min=200", "critic.v_max=100"]),
    "batch beyond the replay": (
        ["num_envs=2", "learn.replay=100", "learn.batch=101"],
        ["learn.batch=101", "learn.replay=100", "lower", "raise"],
    ),
    "window beyond the ring": (
        ["num_envs=10", "learn.replay=60", "learn.batch=10", "learn.n_step=5"],
        ["learn.n_step=5", "60 // 10 = 6", "below 5", "raise learn.replay"],
    ),
    "collects beyond the ring": (
        ["num_envs=10", "learn.replay=60", "learn.batch=10", "learn.collect_steps=7"],
        ["learn.collect_steps=7", "6 steps"],
    ),
    "nothing but warm-up": (
        ["warmup_steps=1000", "env_steps=1000"],
        ["warmup_steps=1000", "env_steps=1000", "raise"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_in_one_sentence(mistake: str) -> None:
    overrides, named = MISTAKES[mistake]
    message = refusal(*overrides)
    assert is_one_sentence(message), message
    for part in named:
        assert part in message


@pytest.mark.parametrize(
    "overrides",
    [
        ["num_envs=2", "learn.replay=100", "learn.batch=100", "warmup_steps=100"],
        ["num_envs=10", "learn.replay=60", "learn.batch=10", "learn.n_step=4", "warmup_steps=60"],
        [
            "num_envs=10",
            "learn.replay=60",
            "learn.batch=10",
            "learn.collect_steps=6",
            "warmup_steps=0",
        ],
        ["task.reset_pool=8", "task.reset_refresh=9"],
        ["warmup_steps=999", "env_steps=1000"],
        ["learn.gamma=1.0", "algorithm.equal_time_share=0.0"],
        ["task.iterations=null", "warmup_steps=0"],
        ["seed=4294967294", "seeds=2"],
        ["actor.decay_begin=0", "actor.decay_end=0", "actor.final_lr=0"],
        ["name=study/first"],
        ["task.graph_mode=warp_staged_ex", "task.impl=warp"],
        ["task.graph_mode=warp", "task.impl=auto"],
        ["task.graph_mode=null", "task.impl=jax"],
    ],
)
def test_the_limits_themselves_are_allowed(overrides: list[str]) -> None:
    configs.load(overrides)


def test_a_task_that_no_simulator_knows_is_refused() -> None:
    config = configs.load(["task.name=dmc/cartpole_swngup"])
    with pytest.raises(ConfigError) as caught:
        make_program(config)
    message = str(caught.value)
    assert "\n" not in message
    assert "dmc/cartpole_swngup" in message
    assert "dmc/cartpole_swingup" in message


def test_graphs_of_a_task_that_mjx_simulates_are_refused() -> None:
    """Which backend task.impl=null means depends on the task."""
    config = configs.load(["task.graph_mode=warp_staged"])
    with pytest.raises(ConfigError) as caught:
        make_program(config)
    message = str(caught.value)
    assert is_one_sentence(message)
    for part in ("graph_mode='warp_staged'", "impl='jax'", "impl='warp'"):
        assert part in message


def counts() -> list[str]:
    """Keys of the schema that count something: whole numbers that cannot be 0."""
    sections = {f.name: f.default_factory for f in dataclasses.fields(Config)}
    keys = [f.name for f in dataclasses.fields(Config) if f.type is int]
    for section, schema in sections.items():
        if schema is not dataclasses.MISSING:
            names = [f.name for f in dataclasses.fields(schema()) if f.type is int]
            keys += [f"{section}.{name}" for name in names]
    may_be_zero = {
        "seed",
        "warmup_steps",
        "pixels.shift",
        "actor.decay_begin",
        "actor.decay_end",
    }
    return sorted(set(keys) - may_be_zero - {"critic.bins"})  # of bins there must be two


@pytest.mark.parametrize("key", counts())
def test_every_count_must_be_positive(key: str) -> None:
    message = refusal(f"{key}=0")
    assert f"{key}=0" in message
    assert is_one_sentence(message)


# ------------------------------------------------------------------------------- round trips


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    return {
        key: value
        for name, inner in tree.items()
        for key, value in (
            flat(inner, f"{prefix}{name}.") if isinstance(inner, dict) else {prefix + name: inner}
        ).items()
    }


def test_yaml_keeps_every_setting() -> None:
    config = configs.load(
        ["preset=paper", "algorithm=fpmd_r", "learn.dtype=bfloat16", "critic.lr=1.2345678e-4",
         "task.iterations=3", "actor.hidden=[5,6,7]", "seed=11", "name=with-a-name"]
    )  # fmt: skip
    again = configs.from_yaml(configs.to_yaml(config))
    assert again == config
    assert flat(dataclasses.asdict(again)) == flat(dataclasses.asdict(config))
    assert again.critic.lr == 1.2345678e-4
    assert again.folder == config.folder
    assert configs.to_yaml(again) == configs.to_yaml(config)


def test_a_stored_config_from_before_a_setting_has_its_default() -> None:
    config = configs.load(["task.impl=warp"])
    text = configs.to_yaml(config)
    older = text.replace("  graph_mode: null\n", "")
    assert older != text
    assert configs.from_yaml(older) == config


def test_a_stored_config_of_another_version_is_refused() -> None:
    text = configs.to_yaml(configs.load([]))
    for wrong in (
        text + "old_setting: 3\n",
        text.replace("  batch: 256", "  batch: many"),
    ):
        assert wrong != text
        with pytest.raises(ConfigError) as caught:
            configs.from_yaml(wrong)
        assert "\n" not in str(caught.value)
        assert "does not fit this version" in str(caught.value)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_schema_defaults_are_valid(algorithm: str) -> None:
    settings = ALGORITHMS[algorithm](name=algorithm)
    config = Config(preset="none", name="x", algorithm=settings)
    config.task.name = "dmc/cartpole_swingup"
    rules.validate(config)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_setting_says_what_it_may_be(algorithm: str) -> None:
    """And refuses what no setting of its type can be."""
    config = configs.load([f"algorithm={algorithm}"])
    wrong = {int: (-1, 2**60), float: (math.nan, math.inf), str: ("",)}
    for key, each in rules.settings(config):
        allowed, now = each.metadata["allowed"], rules.value(config, key)
        assert allowed.holds(now), key
        assert allowed.remedy.startswith(("give ", "choose ")), key
        kind = type(now) if now is not None else int if "int" in str(each.type) else str
        if kind is list:
            assert not any(allowed.holds(x) for x in ([], [type(now[0])()])), key
        elif kind is not bool:
            assert not any(allowed.holds(x) for x in wrong[kind]), key


@pytest.mark.parametrize("algorithm", configs.choices("algorithm"))
@pytest.mark.parametrize("preset", configs.choices("preset"))
def test_no_preset_sets_what_does_nothing(preset: str, algorithm: str) -> None:
    def keys(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
        for key, x in tree.items():
            if isinstance(x, dict):
                yield from keys(x, f"{prefix}{key}.")
            elif key != "defaults":
                yield prefix + key

    folder, chosen = configs.configs_dir(), []
    for path in (
        folder / "preset" / f"{preset}.yaml",
        folder / "preset_algorithm" / f"{preset}-{algorithm}.yaml",
    ):
        if path.exists():  # a preset need not say anything about an algorithm
            text = path.read_text()
            prefix = "" if text.startswith("# @package _global_\n") else "algorithm."
            chosen += keys(yaml.safe_load(text), prefix)
    config = configs.load([f"preset={preset}", f"algorithm={algorithm}"])
    rules.refuse_useless(config, chosen)


def test_a_config_of_an_earlier_version_is_read() -> None:
    now = configs.load(["algorithm=fpmd_r", "preset=paper", "algorithm.candidates=5", "seed=3"])
    tree = yaml.safe_load(configs.to_yaml(now))
    algorithm = tree.pop("algorithm")
    actor_optim = {x: tree["actor"].pop(x) for x in ("lr", "final_lr", "decay_begin", "decay_end")}
    own = ("name", "flow_steps", "prior_std", "time_power")
    tree["actor"] |= {x: algorithm[x] for x in own} | {"equal_time_share": 0.0}
    tree["improvement"] = {
        x: algorithm[x] for x in ("candidates", "weights", "temperature", "stats_rate")
    }
    tree["learn"]["policy_delay"] = algorithm["policy_delay"]
    earlier = tree | {"actor_optim": actor_optim, "noise": algorithm["noise"]}
    assert configs.from_yaml(yaml.safe_dump(earlier)) == now
