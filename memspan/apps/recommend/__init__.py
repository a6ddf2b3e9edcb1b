"""Recommendations of what a user may like next, from events, with the reason for each."""
