"""What a learned policy is shown: the same function in training and in production.

`deadline-rich` is the default; `features` and `update` are its two halves, and
`FeatureSet.look` does both in one call.
"""

from policies.features.sets import (
    FEATURE_SETS,
    RICH,
    SIMPLE,
    FeatureSet,
    feature_set,
    features,
    reset_memory,
    update,
)

__all__ = [
    "FEATURE_SETS",
    "RICH",
    "SIMPLE",
    "FeatureSet",
    "feature_set",
    "features",
    "reset_memory",
    "update",
]
