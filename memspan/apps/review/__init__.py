"""A queue of answers that a person is to look at."""
