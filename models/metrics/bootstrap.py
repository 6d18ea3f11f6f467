"""Bootstrap confidence intervals of a mean. N values, C clusters, R resamples."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch


def bootstrap_interval(
    values: Sequence[float],
    clusters: Sequence[Hashable],
    generator: torch.Generator,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    weights: Sequence[float] | None = None,
) -> tuple[float, float]:
    """Percentile interval of the mean of `values`, resampling whole clusters with replacement.

    Values of one cluster (several draws of the same sentence) are not independent, so they stay together; give each
    value a cluster of its own where they are. `weights` (above 0) make it a weighted mean: rates with the
    words of each row as weights give an error rate. ValueError without values, or for lists of different lengths.
    """
    if not values or len(values) != len(clusters):
        raise ValueError(
            f"{len(values)} values in {len(clusters)} clusters; give at least one value, each a cluster"
        )
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must be between 0 and 1")
    if weights is not None and (len(weights) != len(values) or min(weights) <= 0):
        raise ValueError(f"{len(weights)} weights for {len(values)} values; give one above 0 for each")
    names = {name: index for index, name in enumerate(dict.fromkeys(clusters))}
    of_value_N = torch.tensor([names[name] for name in clusters])
    weights_N = torch.tensor([1.0] * len(values) if weights is None else weights, dtype=torch.float64)
    sums_C = torch.zeros(len(names), dtype=torch.float64)
    sums_C.index_add_(0, of_value_N, weights_N * torch.tensor(values, dtype=torch.float64))
    counts_C = torch.zeros_like(sums_C).index_add_(0, of_value_N, weights_N)
    drawn_RC = torch.randint(len(names), (resamples, len(names)), generator=generator)
    means_R = sums_C[drawn_RC].sum(1) / counts_C[drawn_RC].sum(1)
    tail = (1 - level) / 2
    low, high = means_R.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high
