"""The state of the fake cloud: pools, instances, groups, fleets, queues and the events between them."""
