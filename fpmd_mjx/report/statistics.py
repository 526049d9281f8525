"""Statistics of returns."""

from typing import Any

import numpy as np
from scipy import special


def interval(x: np.ndarray) -> list[float] | None:
    """95 % Student t interval of the mean of independent values (n,); None for fewer than two."""
    x = np.asarray(x, np.float64)
    if x.size < 2:
        return None
    half = special.stdtrit(x.size - 1, 0.975) * x.std(ddof=1) / np.sqrt(x.size)
    return [float(x.mean() - half), float(x.mean() + half)]


def summarize(returns: np.ndarray, env_steps: int) -> dict[str, Any]:
    """The `eval` entry of summary.json from returns (seeds, episodes).

    The seed is the unit of replication: std and ci95 are over the means of the seeds, and null for
    one seed. episode_ci95 is over all episodes: it tells how precisely these policies were scored.
    """
    returns = np.asarray(returns, np.float64)
    per_seed = returns.mean(1)
    return {
        "mean": float(per_seed.mean()),
        "std": float(per_seed.std(ddof=1)) if per_seed.size > 1 else None,
        "ci95": interval(per_seed),
        "episode_ci95": interval(returns.ravel()),
        "per_seed": [float(x) for x in per_seed],
        "episodes": int(returns.shape[1]),
        "env_steps": env_steps,
    }
