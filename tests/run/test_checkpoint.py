import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from fpmd_mjx.run.checkpoint import CheckpointError, Checkpoints
from fpmd_mjx.run.process import child_environment


@struct.dataclass
class Learner:
    actor: dict[str, Any]
    momentum: tuple[Any, ...]


@struct.dataclass
class ToyState:
    learner: Learner
    replay: Any
    key: jax.Array
    count: jax.Array
    unused: Any = None


def toy_state(seed: int = 0, width: int = 3) -> ToyState:
    """Every kind of leaf that a train state may have, each with another content per seed."""
    a, b, c, d = jax.random.split(jax.random.key(seed), 4)
    kernel = jax.random.normal(a, (2, width)).at[0, 0].set(jnp.nan)
    return ToyState(
        learner=Learner(
            actor={"params": {"kernel": kernel, "scale": kernel[0, 1:].astype(jnp.bfloat16)}},
            momentum=(None, jnp.zeros((0, 4)), {"ema": jax.random.normal(b, ())}),
        ),
        replay={"rows": jax.random.normal(c, (8, 2, 5)), "full": jnp.array([True, False])},
        key=jax.random.split(d, 2),
        count=jax.random.key_data(d),
    )


def policy_of(state: ToyState) -> dict[str, Any]:
    return {"actor": state.learner.actor, "count": state.count}


def save(checkpoints: Checkpoints, epoch: int, state: ToyState, score: float | None = None) -> None:
    checkpoints.save(epoch, state, {"epoch": epoch}, score, policy=policy_of(state))


def assert_same_bits(got: Any, want: Any) -> None:
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


def test_restores_every_bit_and_the_meta(folder: Path):
    meta = {"epoch": 7, "train_seconds": 1.5, "config": {"actor": {"name": "fpmd_m"}}}
    state = toy_state(1)
    with Checkpoints(folder, keep_last=1, keep_best=True, replay=True) as checkpoints:
        checkpoints.save(7, state, meta, 1.0, policy=policy_of(state))
    with Checkpoints(folder, keep_last=1, keep_best=True, replay=True) as checkpoints:
        for template in (toy_state(2), jax.eval_shape(toy_state)):
            restored, restored_meta = checkpoints.restore(template)
            assert_same_bits(restored, state)
            assert restored_meta == meta
        # One placement for all leaves, or the program would be compiled twice.
        assert {leaf.committed for leaf in jax.tree.leaves(restored)} == {True}


def test_policy_is_read_without_the_rest(folder: Path):
    state = toy_state(1)
    with Checkpoints(folder, keep_last=1, keep_best=False, replay=True) as checkpoints:
        save(checkpoints, 1, state)
        checkpoints.wait()
        for item in ("state", "replay"):
            (folder / "1" / item).rename(folder / f"{item}-away")
        assert_same_bits(checkpoints.restore_policy(), policy_of(state))


@pytest.mark.parametrize(
    ("keep_best", "kept"), [(True, [2, 5, 6]), (False, [5, 6])], ids=["best", "last only"]
)
def test_keeps_the_last_and_the_best(folder: Path, keep_best: bool, kept: list[int]):
    scores = {1: 0.5, 2: 3.0, 3: float("nan"), 4: 2.0, 5: 1.0, 6: None}
    with Checkpoints(folder, keep_last=2, keep_best=keep_best, replay=False) as checkpoints:
        for epoch, score in scores.items():
            save(checkpoints, epoch, toy_state(epoch), score)
        assert checkpoints.latest() == 6
        assert checkpoints.best() == kept[0]
        for epoch in kept:
            restored, meta = checkpoints.restore(toy_state(), epoch)
            assert meta == {"epoch": epoch}
            assert_same_bits(restored.learner, toy_state(epoch).learner)
    assert sorted(int(path.name) for path in folder.iterdir()) == kept


def test_of_equal_scores_the_oldest_is_the_best(folder: Path):
    with Checkpoints(folder, keep_last=1, keep_best=True, replay=False) as checkpoints:
        for epoch, score in {1: 1.0, 2: 3.0, 3: 3.0, 4: 0.0}.items():
            save(checkpoints, epoch, toy_state(), score)
        assert checkpoints.best() == 2
        assert checkpoints.epochs() == [2, 4]


def save_policy(checkpoints: Checkpoints, epoch: int, score: float) -> None:
    checkpoints.save(epoch, None, {"epoch": epoch}, score, policy=policy_of(toy_state(epoch)))


def test_the_best_epoch_is_kept_between_two_checkpoints(folder: Path):
    """Its policy alone; and a run that was killed finds the best of what it continues from."""
    with Checkpoints(folder, keep_last=1, keep_best=True, replay=True) as checkpoints:
        save_policy(checkpoints, 1, 5.0)
        assert checkpoints.latest() is None  # nothing to continue from
        save(checkpoints, 2, toy_state(2), 4.0)
        save_policy(checkpoints, 3, 6.0)
        assert checkpoints.epochs() == [1, 2, 3]
        save_policy(checkpoints, 4, 7.0)
        assert (checkpoints.latest(), checkpoints.best()) == (2, 4)
        assert checkpoints.epochs() == [1, 2, 4]
        assert_same_bits(checkpoints.restore_policy(4), policy_of(toy_state(4)))
        assert_same_bits(checkpoints.restore_policy(), policy_of(toy_state(2)))
        assert checkpoints.restore(toy_state())[1] == {"epoch": 2}
        with pytest.raises(CheckpointError, match="holds only its policy: continue from epoch 2"):
            checkpoints.restore(toy_state(), 4)
        assert not (folder / "4" / "state").exists()
    with Checkpoints(folder, keep_last=1, keep_best=True, replay=True) as checkpoints:
        assert checkpoints.latest() == 2
        assert checkpoints.best() == 4  # reading changes nothing
        save(checkpoints, 3, toy_state(3), 1.0)  # now epoch 4 is another one, yet to come
        assert checkpoints.epochs() == [1, 3]
        assert checkpoints.best() == 1
    assert sorted(int(path.name) for path in folder.iterdir()) == [1, 3]


def test_no_best_without_a_score(folder: Path):
    with Checkpoints(folder, keep_last=1, keep_best=True, replay=False) as checkpoints:
        save(checkpoints, 1, toy_state(), None)
        assert checkpoints.best() is None


def test_state_may_be_donated_while_the_save_is_under_way(folder: Path):
    train_epoch = jax.jit(lambda state: jax.tree.map(jnp.zeros_like, state), donate_argnums=0)
    rows = jnp.full((1 << 21,), 7.0)  # 8 MB: still being written when the next epoch runs
    state = toy_state(1).replace(replay=rows, key=jnp.ones(2, jnp.uint32), count=jnp.ones(2))
    with Checkpoints(folder, keep_last=1, keep_best=False, replay=True) as checkpoints:
        save(checkpoints, 1, state)
        for _ in range(10):
            state = train_epoch(state)
        restored, _ = checkpoints.restore(state)
    assert (restored.replay == 7.0).all()
    assert (restored.count == 1.0).all()
    assert (state.replay == 0.0).all()


def test_a_saved_state_is_donated_once_it_is_on_disk(folder: Path):
    """Otherwise the next epoch would hold the replay twice."""
    train_epoch = jax.jit(lambda state: jax.tree.map(jnp.flip, state), donate_argnums=0)
    state = toy_state(1)
    with Checkpoints(folder, keep_last=1, keep_best=False, replay=True) as checkpoints:
        save(checkpoints, 1, state)
        checkpoints.wait()
        train_epoch(state)
    assert not [x for x in jax.tree.leaves(state) if x.size and not x.is_deleted()]


def test_without_replay_the_template_gives_it(folder: Path):
    state, template = toy_state(1), toy_state(2)
    with Checkpoints(folder, keep_last=1, keep_best=False, replay=False) as checkpoints:
        save(checkpoints, 1, state)
        restored, _ = checkpoints.restore(template)
        assert_same_bits(restored, state.replace(replay=template.replay))
        assert {leaf.committed for leaf in jax.tree.leaves(restored)} == {True}
        assert not (folder / "1" / "replay").exists()
    with (
        Checkpoints(folder, keep_last=1, keep_best=False, replay=True) as checkpoints,
        pytest.raises(CheckpointError, match="without its replay"),
    ):
        checkpoints.restore(template)


def test_a_state_that_does_not_fit_is_named(folder: Path):
    with Checkpoints(folder, keep_last=1, keep_best=False, replay=True) as checkpoints:
        save(checkpoints, 1, toy_state())
        other = toy_state(width=5).replace(count=jnp.zeros(2), unused=jnp.zeros(1))
        with pytest.raises(CheckpointError, match="does not fit") as caught:
            checkpoints.restore(other)
    text = str(caught.value)
    actor = "state/learner/actor/params"
    assert f"{actor}/kernel: saved float32 (2, 3), this run has float32 (2, 5)" in text
    assert "state/count: saved uint32 (2,), this run has float32 (2,)" in text
    assert "state/unused: saved nothing, this run has float32 (1,)" in text
    assert "replay" not in text


def test_user_errors_have_a_remedy(folder: Path):
    with pytest.raises(CheckpointError, match="at least 1"):
        Checkpoints(folder, keep_last=0, keep_best=True, replay=True)
    state = toy_state()
    with Checkpoints(folder, keep_last=1, keep_best=True, replay=True) as checkpoints:
        assert checkpoints.latest() is None
        assert checkpoints.best() is None
        with pytest.raises(CheckpointError, match="no checkpoint in"):
            checkpoints.restore(state)
        assert not folder.exists()  # looking for checkpoints makes no folder
        with pytest.raises(CheckpointError, match="meta must be JSON"):
            checkpoints.save(1, state, {"path": Path()}, None, policy={})
        with pytest.raises(CheckpointError, match="state/count is a int"):
            save(checkpoints, 1, state.replace(count=3))
        save(checkpoints, 2, state)
        with pytest.raises(CheckpointError, match="already has epoch 2, epoch 1 cannot follow"):
            save(checkpoints, 1, state)
        with pytest.raises(CheckpointError, match=r"no epoch 1 .* there are: \[2\]"):
            checkpoints.restore(state, 1)


def test_unfinished_checkpoints_are_not_seen_and_only_a_writer_removes_them(folder: Path):
    with Checkpoints(folder, keep_last=2, keep_best=True, replay=True) as checkpoints:
        save(checkpoints, 1, toy_state(1))
    unfinished = folder / "2.orbax-checkpoint-tmp"
    (unfinished / "state").mkdir(parents=True)
    with Checkpoints(folder, keep_last=2, keep_best=True, replay=True) as checkpoints:
        assert checkpoints.latest() == 1
        assert_same_bits(checkpoints.restore(toy_state())[0], toy_state(1))
        assert unfinished.exists()  # it may be another process's, about to be finished
        save(checkpoints, 2, toy_state(2))
        assert checkpoints.latest() == 2
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2"]


def large_state(seed: int) -> ToyState:
    return toy_state(seed).replace(replay=jax.random.normal(jax.random.key(seed), (1 << 22,)))


KILLED = """
import os, signal, sys
from fpmd_mjx.run.checkpoint import Checkpoints
from tests.run.test_checkpoint import large_state, save
checkpoints = Checkpoints(sys.argv[1], keep_last=2, keep_best=True, replay=True)
states = large_state(1), large_state(2)
save(checkpoints, 1, states[0])
checkpoints.wait()
save(checkpoints, 2, states[1])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_sigkill_loses_at_most_the_save_under_way(folder: Path):
    env = child_environment(JAX_PLATFORMS="cpu")
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder)], env=env, check=False, timeout=120
    )
    assert killed.returncode == -signal.SIGKILL
    with Checkpoints(folder, keep_last=2, keep_best=True, replay=True) as checkpoints:
        epoch = checkpoints.latest()
        assert epoch in (1, 2)  # nearly always 1: 16 MB are not written in no time
        restored, meta = checkpoints.restore(jax.eval_shape(large_state, 0))
    assert_same_bits(restored, large_state(epoch))
    assert meta == {"epoch": epoch}
