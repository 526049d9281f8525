"""The grid of a benchmark, and what is refused before anything is compiled."""

import importlib.util

import pytest

from fpmd_mjx.bench.plan import BENCHMARKS, NAMED_ONLY, PEERS, make_plan
from fpmd_mjx.config import load as configs
from fpmd_mjx.config.schema import ConfigError


def test_no_benchmark_is_all_but_those_that_need_a_target_or_to_be_named() -> None:
    own = tuple(x for x in BENCHMARKS if x not in (*PEERS, *NAMED_ONLY))
    assert make_plan([], 3).benchmarks == tuple(x for x in own if x != "target")
    assert make_plan(["target=10"], 3).benchmarks == own


def test_peers_have_settings_of_their_own_which_the_command_may_change() -> None:
    cells = make_plan(["peers-speed"], 3).cells
    names = ["playground/CartpoleSwingup", "playground/CheetahRun", "playground/WalkerWalk"]
    assert [cell.config.task.name for cell in cells] == names
    for cell in cells:
        config = cell.config
        assert (config.num_envs, config.learn.batch, config.learn.updates) == (64, 256, 2)
        assert config.actor.hidden == config.critic.hidden == [256, 256]
        assert configs.load(list(cell.overrides)) == config
        assert cell.variants == tuple(
            ("algorithm=fpmd_m", f"algorithm.candidates={n}", f"algorithm.policy_delay={delay}")
            for n in (1, 8, 32)
            for delay in (2, 1)
        )
    words = ["peers-speed", "task=playground/FishSwim", "actor.hidden=[8]", "learn.batch=8"]
    [cell] = make_plan([*words, "algorithm=fpmd_r", "algorithm.candidates=2"], 3).cells
    assert cell.variants == tuple(
        ("algorithm=fpmd_r", "algorithm.candidates=2", f"algorithm.policy_delay={delay}")
        for delay in "21"
    )
    assert make_plan(["learn"], 3).cells[0].variants == ()
    assert (cell.config.task.name, cell.config.learn.batch) == ("playground/FishSwim", 8)
    assert cell.config.actor.hidden == cell.config.critic.hidden == [8]


def test_the_target_and_the_limit_of_peers() -> None:
    [cell] = make_plan(["peers-return", "target=800", "limit=60"], 3).cells
    assert (cell.target, cell.limit, cell.config.preset) == (800.0, 60.0, "fast")
    assert cell.config.eval.episodes == 128  # as many as brax's


@pytest.mark.parametrize(
    ("words", "peers"),
    [
        (["peers-speed"], ("sac", "sac_tuned", "ppo")),
        (["peers-return", "target=8"], ("sac", "ppo")),
    ],
)
def test_peers_are_sides_of_each_cell_and_can_be_chosen(
    words: list[str], peers: tuple[str, ...]
) -> None:
    assert {(x.peers, x.peer_divisor) for x in make_plan(words, 3).cells} == {(peers, 1)}
    words += ["seed=0,1", "task=playground/FishSwim"]
    cells = make_plan([*words, "peer=ppo,sac", "peer_divisor=32"], 3).cells
    assert [(x.label, x.peers, x.peer_divisor) for x in cells] == [
        (f"seed={seed}", ("ppo", "sac"), 32) for seed in "01"
    ]
    assert make_plan(["learn"], 3).cells[0].peers == ()


@pytest.mark.usefixtures("sbx_installed")
def test_on_original_tasks_the_peers_are_those_of_sbx() -> None:
    words = ["peers-return", "target=800", "seed=0,1", "task=dmc/finger_spin"]
    cells = make_plan(words, 3).cells
    assert [(x.label, x.config.seed) for x in cells] == [("seed=0", 0), ("seed=1", 1)]
    for cell in cells:
        config = cell.config
        assert cell.peers == ("sbx_sac", "sbx_tqc", "sbx_crossq")
        assert (config.preset, config.seeds, config.eval.episodes) == ("cpu", 1, 10)
    [cell] = make_plan([*words[:2], "task=gym/Ant-v5", "peer=sbx_crossq", "preset=fast"], 3).cells
    assert (cell.peers, cell.config.preset) == (("sbx_crossq",), "fast")


def test_the_part_that_is_profiled() -> None:
    assert [cell.part for cell in make_plan(["profile"], 3).cells] == ["program"]
    cells = make_plan(["profile", "part=collect,learn"], 3).cells
    assert [(cell.label, cell.part) for cell in cells] == [
        ("part=collect", "collect"),
        ("part=learn", "learn"),
    ]


def test_without_their_packages_a_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "brax" else object()
    )
    with pytest.raises(ConfigError, match=r"pip install 'fpmd-mjx\[peers\]'"):
        make_plan(["peers-speed"], 3)
    assert make_plan(["peers-return", "target=8", "task=dmc/cheetah_run"], 3).cells
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs sbx .* run `pip install 'fpmd-mjx\[sbx\]'`"):
        make_plan(["peers-return", "target=8", "task=dmc/cheetah_run"], 3)
    assert make_plan(["physics"], 3).cells


def test_without_a_grid_there_is_one_cell_without_a_label() -> None:
    plan = make_plan(["learn", "num_envs=8", "physics"], 3)
    assert plan.benchmarks == ("physics", "learn")
    [cell] = plan.cells
    assert (cell.label, cell.target, cell.config.num_envs) == ("", None, 8)
    assert plan.rounds == 3


def test_a_grid_has_every_combination_and_labels_say_what_differs() -> None:
    words = ["task=dmc/cheetah_run,gym/Ant-v5", "seeds=1,2", "learn.batch=32", "target=5"]
    cells = make_plan(words, 3).cells
    assert [cell.label for cell in cells] == [
        "task=dmc/cheetah_run,seeds=1",
        "task=dmc/cheetah_run,seeds=2",
        "task=gym/Ant-v5,seeds=1",
        "task=gym/Ant-v5,seeds=2",
    ]
    assert [cell.config.seeds for cell in cells] == [1, 2, 1, 2]
    assert cells[3].config.task.name == "gym/Ant-v5"
    assert {cell.target for cell in cells} == {5.0}
    assert {cell.config.learn.batch for cell in cells} == {32}


def test_the_commas_of_a_list_make_no_grid() -> None:
    cells = make_plan(["actor.hidden=[8,8],[16]", "critic.hidden=[4,4]"], 3).cells
    assert [cell.config.actor.hidden for cell in cells] == [[8, 8], [16]]
    assert cells[0].label == "actor.hidden=[8,8]"


@pytest.mark.usefixtures("sbx_installed")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["progam"], "benchmark progam is unknown: choose one of program"),
        (["target"], "add target=RETURN"),
        (["target=high"], "target=high is not possible: give a finite number"),
        (["target=nan"], "target=nan is not possible"),
        (["target=1", "limit=soon"], "limit=soon is not possible"),
        (["target=1", "limit=0"], "limit=0 is not possible: give a number above 0"),
        (["curve", "limit=-5"], "limit=-5 is not possible: give a number above 0"),
        (["limit=60"], "limit=SECONDS is for training: add target=RETURN, or benchmark curve"),
        (["peers-return"], "benchmark peers-return needs a return to reach"),
        (["peers-speed", "learn"], "peers-speed has settings of its own: measure it alone"),
        (["curve", "whole=yes", "limit=9"], "whole=yes is not possible: give true or false"),
        (["curve", "whole=true"], "whole=true is for benchmark curve with limit=SECONDS"),
        (["learn", "modes=best_of_n"], "is for benchmarks curve and target: add one of them"),
        (["profile", "part=physics"], "part=physics is unknown: choose one of collect, learn"),
        (["learn", "part=learn"], "part=NAME is for benchmark profile"),
        (["peers-return", "target=8", "peer=td3"], "peer=td3 is unknown: choose among sac, ppo."),
        (["peers-return", "target=8", "peer=sac_tuned"], "peer=sac_tuned is unknown"),
        (["peers-speed", "peer=sac,sac"], "peer=sac,sac has a value twice"),
        (["peers-speed", "peer_divisor=3"], "peer_divisor=3 is not possible: choose one of 1, 2,"),
        (["learn", "peer=sac"], "peer is for benchmarks peers-speed and peers-return: name one"),
        (["learn", "peer_divisor=2"], "peer_divisor is for benchmarks peers-speed"),
        (["peers-speed", "algorithm=sac"], "algorithm=sac is unknown"),
        (["peers-speed", "algorithm.policy_delay=1,0"], "algorithm.policy_delay=0 is not possible"),
        (["peers-speed", "learn.n_step=3"], "peers-speed chooses learn.n_step itself"),
        (
            ["peers-speed", "task=dmc/a"],
            "is not possible with peers-speed: give tasks of playground/.",
        ),
        (["peers-return", "task=gym/A,mine/b"], "playground/, or tasks of dmc/ and gym/."),
        (["peers-return", "task=dmc/a,playground/B"], "task=dmc/a,playground/B is not possible"),
        (
            ["peers-return", "peer=sbx_sac"],
            "peer=sbx_sac trains on tasks of dmc/ and gym/: give one",
        ),
        (
            ["peers-return", "task=dmc/a", "peer=ppo"],
            "or choose among sbx_sac, sbx_tqc, sbx_crossq.",
        ),
        (["peers-return", "task=dmc/a", "peer=sbx_ddpg"], "peer=sbx_ddpg is unknown"),
        (["peers-return", "task=dmc/a", "peer_divisor=2"], "chooses peer_divisor itself"),
        (["seeds=1,1"], "seeds=1,1 has a value twice"),
        (["seeds=1", "seeds=2"], "give all its values as seeds=a,b"),
        (["learn.batch=8,0"], "learn.batch=0 is not possible"),
        (["learn.batsh=8"], "learn.batsh=8 is unknown"),
        (["=8"], "'=8' is not an override"),
    ],
)
def test_a_mistake_is_named(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        make_plan(words, 3)


def test_at_least_one_round() -> None:
    with pytest.raises(ConfigError, match="--rounds 0 is not possible"):
        make_plan([], 0)
