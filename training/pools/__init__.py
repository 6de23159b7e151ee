"""Training of the network over several pools."""
