"""fpmd_mjx: one-step flow policies trained beside thousands of MJX simulations in one program."""

import importlib.util
from pathlib import Path


def _check_envs() -> None:
    """Checks that `envs` is the package that lies beside this one: its name is a common one, which
    a folder of the user's, or another package, may have as well.

    Raises:
        ImportError: if it is another one.
    """
    ours = Path(__file__).resolve().parents[1] / "envs"
    found = importlib.util.find_spec("envs")  # imports nothing
    if found and (not found.origin or Path(found.origin).resolve().parent != ours):
        raise ImportError(
            f"Python finds the package envs at {found.origin}, but fpmd_mjx needs its own at "
            f"{ours}: rename the former or start from another folder, and if it was installed, "
            "run `pip uninstall envs` and install fpmd-mjx again."
        )


_check_envs()
