"""The index of a memory: text and questions as keys and queries, scores of passages, and the choice of heads."""
