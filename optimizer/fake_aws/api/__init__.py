"""What each action of the API does."""
