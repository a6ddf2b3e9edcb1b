"""Customer service: replies from what a company knows and has answered before, and a person for everything else."""
