"""Search for training settings: Optuna proposes, processes or a Ray cluster train, the median prunes."""
