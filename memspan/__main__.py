"""`python -m memspan` is `memspan`."""

from memspan.cli import main

if __name__ == "__main__":
    main()
