"""Checkpoints of a run: everything needed to continue it bit for bit, and the policy on its own.

Each epoch's checkpoint holds up to four orbax items: `state` (the train state without its replay),
`replay`, `policy` (what acting needs, read without the rest) and `meta` (JSON: the caller's, and a
table of all arrays). An epoch that is kept for its score alone has `policy` and `meta`.

Arrays are stored flat, by their path in the tree, so that a mismatch is reported by name. Orbax
cannot store None, arrays of size 0 and typed PRNG keys: the first two come from the template, and
keys are stored as their data.
"""

import json
import math
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from fpmd_mjx.run.retention import Retention, best, resumable, score_of

PyTree = Any
State = TypeVar("State")

_SHOWN_DIFFERENCES = 10


class CheckpointError(Exception):
    """A checkpoint that cannot be written, or that does not fit what it is restored into."""


class Checkpoints:
    """The checkpoints in one folder, written in the background.

    A checkpoint gets its name when all of it is on disk, so a reader never sees a part of one.
    Opening a folder and restoring from it do not change it: a run may be evaluated while it is
    still training. Only one process may save.

    The next `save`, `wait` or exit raises an error of the background write, such as a full disk.

    Args:
        directory: made by the first `save`.
        keep_last: how many of the newest checkpoints to keep, at least 1.
        keep_best: also keep the one with the highest score, the oldest of equals.
        replay: store `state.replay`. Without it checkpoints are small. A restored run then
            continues with the template's replay, which is not bit for bit.
    """

    def __init__(self, directory: str | Path, *, keep_last: int, keep_best: bool, replay: bool):
        if keep_last < 1:
            raise CheckpointError(f"keep_last is {keep_last}: keep at least 1 checkpoint")
        self._directory = Path(directory).absolute()
        self._replay = replay
        self._retention = Retention(keep_last, keep_best)
        self._writing = False
        self._manager = self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Waits until everything is on disk."""
        self._manager.close()

    def save(
        self,
        epoch: int,
        state: PyTree | None,
        meta: dict[str, Any],
        score: float | None,
        *,
        policy: PyTree,
    ) -> None:
        """Copies the arrays to the host, then writes them in the background.

        The caller may donate `state` as soon as this returns.

        Args:
            epoch: must be greater than that of every checkpoint in the folder.
            state: a `flax.struct` dataclass of JAX arrays with a field `replay`. None saves the
                policy alone, which no run can continue from.
            meta: host values that the run needs to continue; JSON.
            score: of this epoch's own evaluation. None and non-finite scores are never the best.
            policy: the arrays that acting needs; path components become the keys of
                `restore_policy`'s dicts.

        Raises:
            CheckpointError: `meta` is not JSON, a leaf is not a JAX array, or the folder has a
                checkpoint of this epoch or a later one.
        """
        if not self._writing:
            # This process is the only writer now, so it may delete what a killed one left.
            self._manager.close()
            self._writing = True
            self._manager = self._open()
            self._forget_lost_epochs()
        latest = self._manager.latest_step()
        if latest is not None and epoch <= latest:
            raise CheckpointError(
                f"{self._directory} already has epoch {latest}, epoch {epoch} cannot follow it: "
                "resume from the latest checkpoint, or start a run in a new folder"
            )
        trees = {} if state is None else {"state": state.replace(replay=None)}
        if state is not None and self._replay:
            trees["replay"] = state.replay
        trees["policy"] = policy
        arrays = {item: _arrays(tree, item) for item, tree in trees.items()}
        document = {
            "meta": meta,
            "arrays": {
                item: {name: _describe(leaf) for name, leaf in leaves.items()}
                for item, leaves in arrays.items()
            },
        }
        try:
            json.dumps(document)
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"meta must be JSON: {error}") from error
        args: dict[str, ocp.args.CheckpointArgs] = {"meta": ocp.args.JsonSave(document)}
        for item, leaves in arrays.items():
            stored = {name: _handle(_raw(leaf)) for name, leaf in leaves.items() if leaf.size}
            if stored:
                # Orbax ends the transfer to the host before save() returns. On CPUs the result is a
                # view of the buffer, and JAX does not reuse a buffer in view.
                args[item] = ocp.args.StandardSave(stored)
        if score is not None and not math.isfinite(score):
            score = None
        metrics = {"score": score, "resumable": state is not None}
        self._manager.save(epoch, args=ocp.args.Composite(**args), metrics=metrics)

    def wait(self) -> None:
        """Returns when the last `save` is on disk."""
        self._manager.wait_until_finished()

    def epochs(self) -> list[int]:
        """The epochs on disk whose policy can be read, sorted. Waits for a save under way."""
        self.wait()
        return sorted(self._manager.all_steps())

    def latest(self) -> int | None:
        """The newest epoch that a run can continue from, None if there is none."""
        found = [e for e in self.epochs() if resumable(self._manager.metrics(e))]
        return found[-1] if found else None

    def best(self) -> int | None:
        """The epoch with the highest score, of equals the oldest; None if none has a score."""
        return best({epoch: score_of(self._manager.metrics(epoch)) for epoch in self.epochs()})

    def restore(
        self, template_state: State, epoch: int | None = None
    ) -> tuple[State, dict[str, Any]]:
        """Reads a state, bit for bit, and the `meta` saved with it.

        Args:
            template_state: the expected state, concrete or from `jax.eval_shape`. With
                replay=False its replay must be concrete. Arrays are placed by its shardings, and
                on the first device where it has none.
            epoch: None for the latest.

        Raises:
            CheckpointError: there is no such checkpoint, or names, shapes or dtypes differ.
        """
        epoch = self._existing(self.latest() if epoch is None else epoch)
        document = self._document(epoch)
        if "state" not in document["arrays"]:
            raise CheckpointError(
                f"epoch {epoch} in {self._directory} holds only its policy: continue from epoch "
                f"{self.latest()}"
            )
        template: Any = template_state
        trees = {"state": template.replace(replay=None)}
        if self._replay:
            if "replay" not in document["arrays"]:
                raise CheckpointError(
                    f"epoch {epoch} in {self._directory} was saved without its replay: open it "
                    "with replay=False to continue with an empty one"
                )
            trees["replay"] = template.replay
        differences = []
        for item, tree in trees.items():
            wanted = {name: _describe(leaf) for name, leaf in _named(tree).items()}
            differences += _differences(item, document["arrays"][item], wanted)
        if differences:
            shown = differences[:_SHOWN_DIFFERENCES]
            if len(differences) > len(shown):
                shown.append(f"and {len(differences) - len(shown)} more")
            raise CheckpointError(
                f"epoch {epoch} in {self._directory} does not fit this run:\n  "
                + "\n  ".join(shown)
                + "\nContinue with the settings and the version that saved it, or start a new run. "
                "`fpmd eval` can still score its policy."
            )
        restored = {
            item: self._read(epoch, item, tree, document["arrays"][item])
            for item, tree in trees.items()
        }
        if not self._replay:
            # Committed to its device, as the restored arrays are. With a mixture the program would
            # be compiled for the first epoch and again for the second.
            restored["replay"] = jax.tree.map(
                lambda leaf: jax.device_put(leaf, leaf.sharding), template.replay
            )
        return restored["state"].replace(replay=restored["replay"]), document["meta"]

    def restore_policy(self, epoch: int | None = None) -> dict[str, Any]:
        """Reads the `policy` of a `save`, and nothing else.

        Args:
            epoch: None for the latest that a run can continue from.

        Returns:
            Nested dicts of arrays on the first device, keyed by field name, dict key or position.

        Raises:
            CheckpointError: there is no such checkpoint.
        """
        epoch = self._existing(self.latest() if epoch is None else epoch)
        table = self._document(epoch)["arrays"]["policy"]
        template: dict[str, Any] = {}
        for name, entry in table.items():
            *parents, last = name.split("/")
            node = template
            for parent in parents:
                node = node.setdefault(parent, {})
            node[last] = jax.ShapeDtypeStruct(entry["shape"], jnp.dtype(entry["dtype"]))
        return self._read(epoch, "policy", template, table)

    def _open(self) -> ocp.CheckpointManager:
        options = ocp.CheckpointManagerOptions(
            create=self._writing,
            cleanup_tmp_directories=self._writing,
            best_fn=lambda metrics: 0.0,  # without one, orbax stores no metrics
            preservation_policy=self._retention,
        )
        return ocp.CheckpointManager(
            self._directory, options=options, item_names=("state", "replay", "policy", "meta")
        )

    def _forget_lost_epochs(self) -> None:
        """Deletes the policies that a killed process saved after the checkpoint that this one
        continues from."""
        latest = self.latest() or 0
        for epoch in self.epochs():
            if epoch > latest:
                self._manager.delete(epoch)

    def _existing(self, epoch: int | None) -> int:
        epochs = self.epochs()
        if epoch is None or not epochs:
            raise CheckpointError(f"no checkpoint in {self._directory}")
        if epoch not in epochs:
            raise CheckpointError(f"no epoch {epoch} in {self._directory}; there are: {epochs}")
        return epoch

    def meta(self, epoch: int) -> dict[str, Any]:
        """The `meta` of a checkpoint.

        Raises:
            CheckpointError: there is no such checkpoint.
        """
        return self._document(self._existing(epoch))["meta"]

    def _document(self, epoch: int) -> dict[str, Any]:
        args = ocp.args.Composite(meta=ocp.args.JsonRestore())
        return self._manager.restore(epoch, args=args)["meta"]

    def _read(self, epoch: int, item: str, template: PyTree, table: dict[str, Any]) -> Any:
        """The item's arrays in the template's structure. table: their saved descriptions."""
        wanted = _named(template)
        abstract = {name: _abstract(leaf) for name, leaf in wanted.items()}
        stored = {name: leaf for name, leaf in abstract.items() if leaf.size}
        values: Any = {}
        if stored:
            args = ocp.args.Composite(**{item: ocp.args.StandardRestore(stored)})
            values = self._manager.restore(epoch, args=args)[item]
        leaves = []
        for name, leaf in abstract.items():
            value = values.get(name)
            if value is None:
                value = jnp.zeros(leaf.shape, leaf.dtype, device=leaf.sharding)
            if _is_key(wanted[name]):
                value = jax.random.wrap_key_data(value, impl=table[name]["impl"])
            leaves.append(value)
        return jax.tree.unflatten(jax.tree.structure(template), leaves)


def _named(tree: PyTree) -> dict[str, Any]:
    """The leaves by their path, e.g. "learner/actor/params/Dense_0/kernel", in tree order."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(p, simple=True, separator="/"): leaf for p, leaf in leaves}


def _arrays(tree: PyTree, item: str) -> dict[str, jax.Array]:
    """`_named`, checked: raises CheckpointError for a tree that cannot be saved."""
    named = _named(tree)
    for name, leaf in named.items():
        if not isinstance(leaf, jax.Array):
            raise CheckpointError(
                f"{item}/{name} is a {type(leaf).__name__}: only JAX arrays are saved; host values "
                "belong into meta"
            )
    if len(named) != len(jax.tree.leaves(tree)):
        raise CheckpointError(f"two arrays of the {item} have the same path: no '/' in dict keys")
    return named


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _raw(leaf: Any) -> Any:
    """Typed PRNG keys as their uint32 data, other arrays as they are."""
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _handle(leaf: jax.Array) -> jax.Array:
    """Returns another array over the same buffer, for code that reads it on the host.

    From JAX 0.11 on an array keeps the host's view of its buffer. CPUs do not donate a buffer in
    view, so the next epoch would copy the whole state. This view lives only as long as the handle.
    """
    return jax.make_array_from_single_device_arrays(leaf.shape, leaf.sharding, [leaf])


def _describe(leaf: Any) -> dict[str, Any]:
    description = {"dtype": str(leaf.dtype), "shape": list(leaf.shape)}
    if _is_key(leaf) and isinstance(leaf, jax.Array):
        description["impl"] = str(jax.random.key_impl(leaf))
    return description


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    """The raw shape, dtype and sharding with which orbax restores the leaf."""
    raw = jax.eval_shape(_raw, leaf)
    sharding = (_raw(leaf) if isinstance(leaf, jax.Array) else leaf).sharding
    if sharding is None:
        sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(raw.shape, raw.dtype, sharding=sharding)


def _differences(item: str, saved: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    def text(entry: dict[str, Any] | None) -> str:
        return "nothing" if entry is None else f"{entry['dtype']} {tuple(entry['shape'])}"

    return [
        f"{item}/{name}: saved {text(saved.get(name))}, this run has {text(wanted.get(name))}"
        for name in sorted(saved.keys() | wanted.keys())
        if text(saved.get(name)) != text(wanted.get(name))
    ]
