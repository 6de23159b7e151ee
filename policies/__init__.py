"""Who decides: heuristics, planners, learned bundles run in NumPy, behind the safety shield."""
