"""The controller: observe, decide, guard, journal, act, confirm, every tick and at once when interrupted."""
