"""`fpmd render`: what is in the file is what the policy did."""

import functools
from pathlib import Path
from typing import Any

import imageio
import jax
import numpy as np
import pytest

from envs.render.pixels import Camera
from fpmd_mjx import cli
from fpmd_mjx.algorithms.base import ONE_STEP
from fpmd_mjx.config.schema import Config, ConfigError
from fpmd_mjx.evaluation import rollout, video
from fpmd_mjx.run import progress
from fpmd_mjx.run.folder import load_policy
from fpmd_mjx.run.render import render
from fpmd_mjx.seeds import Stream, seed_array, stream_keys

from ..conftest import QUICK, Run
from ..toy import words

pytestmark = pytest.mark.filterwarnings("ignore:os.fork")  # of the decoder, a process of its own


def asked(**changes: Any) -> dict[str, Any]:
    defaults = {"mode": "one_step", "episodes": 1, "seed": 0, "epoch": "latest"}
    return defaults | {"size": 32, "camera": None, "how": "gl"} | changes


def test_a_video_shows_the_episode_in_real_time(cartpole: Run, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "a.mp4"
    line = render(cartpole.folder, out, **asked())
    reader = imageio.get_reader(out)
    assert reader.get_meta_data()["fps"] == 50
    assert reader.get_meta_data()["duration"] == pytest.approx(10.0)
    frames = np.stack([np.asarray(frame) for frame in reader])
    assert [path.name for path in out.parent.iterdir()] == ["a.mp4"]

    # The same episode, from the rollout itself.
    program, policy, epoch = load_policy(cartpole.folder)
    keys = stream_keys(Stream.VIDEO, seed_array(program.config), 0)
    first = jax.tree.map(lambda leaf: leaf[:1], (policy, keys))
    play = functools.partial(rollout.watched, program, ONE_STEP, 1, watch=lambda s: s.physics)
    (returns, _, _), places = jax.jit(play, compiler_options=QUICK)(*first)
    assert line == f"{out}: epoch {epoch}, one_step, return {float(returns[0, 0]):.1f}"
    shown = jax.tree.map(lambda leaf: leaf[::2, 0, 0], places)
    painted = video.Painter(video.make_task(program.config), Camera(size=32), "gl")(shown, {})
    assert frames.shape == painted.shape == (500, 32, 32, 3)

    def difference(shown: np.ndarray) -> float:
        return float(np.abs(shown.astype(int) - painted).mean())

    # MP4 loses a little; the stars of the sky are what it loses most of.
    assert difference(frames) < 4
    for wrong in (frames[::-1], np.roll(frames, 25, 0), frames[:, :, ::-1], frames[..., ::-1]):
        assert difference(wrong) > 1.1 * difference(frames)


def test_the_rollout_that_is_watched_is_the_rollout(cartpole: Run) -> None:
    program, policy, _ = load_policy(cartpole.folder)
    keys = stream_keys(Stream.VIDEO, seed_array(program.config), 4)
    watched = functools.partial(rollout.watched, program, ONE_STEP, 2, watch=lambda s: s.reward)
    (ret, _, _), rewards = jax.jit(watched)(policy, keys)
    plain = jax.jit(functools.partial(rollout.rollout, program, ONE_STEP, 2))(policy, keys)
    np.testing.assert_allclose(ret, plain.returns, rtol=1e-6)
    assert rewards.shape == (1000, 2, 2)
    # Before each step: all rewards but the last one's.
    assert (np.abs(rewards.sum(0) - ret) <= 1 + 1e-3).all()


@pytest.mark.parametrize(
    ("changes", "out", "message"),
    [
        ({"size": 33}, None, "--size=33 is not possible: give an even number"),
        ({}, "a.gif", "give a name that ends in .mp4"),
        ({"mode": "fast"}, None, "mode=fast is unknown"),
        ({"camera": 7}, None, "no camera 7"),
    ],
)
def test_mistakes_are_told(
    cartpole: Run, tmp_path: Path, changes: dict[str, Any], out: str | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        render(cartpole.folder, tmp_path / out if out else None, **asked(**changes))
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_asks_for_all_of_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Any] = []

    def note(*args: Any, **kwargs: Any) -> str:
        seen.append((args, kwargs))
        return "done"

    monkeypatch.setattr("fpmd_mjx.run.render.render", note)
    words_given = "render runs/x -o a.mp4 --episodes 2 --size 64 --camera 1 --renderer warp"
    assert cli.main([*words(words_given), "--mode", "steps=4", "--seed", "3"]) == 0
    assert capsys.readouterr().out == "done\n"
    wanted = asked(mode="steps=4", episodes=2, seed=3, size=64, camera=1, how="warp")
    assert seen == [((Path("runs/x"), Path("a.mp4")), wanted)]
    assert cli.main(words("render runs/x --episodes 0")) == 2
    assert "--episodes=0 is not possible" in capsys.readouterr().err


def test_checkpoints_leave_videos_when_asked(
    host_loop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    class Recorder:
        def __init__(self, *args: Any) -> None:
            made.append(args)

        def __call__(self, policy: Any, keys: Any, out: Path) -> None:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text("")

    monkeypatch.setattr(progress, "Recorder", Recorder)
    checkpoint = Config().checkpoint
    checkpoint.every, checkpoint.video = 2, True
    host_loop(checkpoint=checkpoint, env_steps=480)
    assert len(made) == 1  # compiled once
    [folder] = made[0][0].config.folder.parent.glob("*/videos")
    assert sorted(path.name for path in folder.iterdir()) == [
        f"epoch_{epoch:05d}.mp4" for epoch in (2, 3)
    ]
