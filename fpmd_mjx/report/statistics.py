"""Statistics of returns."""

from collections.abc import Callable
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


def stratified_bootstrap(
    scores: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    repetitions: int = 10_000,
    seed: int = 0,
) -> list[float]:
    """95 % percentile interval of a statistic over tasks (Agarwal et al., arXiv 2108.13264).

    Seeds are drawn with replacement within each task; tasks are not drawn.

    Args:
        scores: (tasks, seeds, ...). What follows the second axis is drawn together, such as two
            settings of the same seed.
        statistic: of samples (repetitions, tasks, seeds, ...): (repetitions,).
        repetitions: samples that are drawn.
        seed: of the draws.
    """
    scores = np.asarray(scores, np.float64)
    tasks, seeds = scores.shape[:2]
    drawn = np.random.default_rng(seed).integers(seeds, size=(repetitions, tasks, seeds))
    found = statistic(scores[np.arange(tasks)[:, None], drawn])
    return [float(x) for x in np.percentile(found, [2.5, 97.5])]
