"""The product: billing, market collection, recommendations, controller, command line."""
