"""Recommendation reports: what one's own bill would have been under each policy, and what to do about it."""
