"""`python -m pytest_memleak` is the command `memleak`."""

from pytest_memleak.cli import main

if __name__ == "__main__":
    main()
