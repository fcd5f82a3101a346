"""What stands before every route: who asks, how often, from where, and how much."""
