"""The world: markets, workloads, exact dynamics, clairvoyant optimum, replay, synthetic markets."""
