"""How the shipped deadline policy is made: planner, guided networks, gate. Run with `make champion`."""
