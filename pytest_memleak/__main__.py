"""`python -m pytest_memleak` is the command `memleak`."""


def main() -> None:
    """The command; what it needs is imported only now, for a scan's workers import this file and do not need it."""
    from pytest_memleak.cli import main as command

    command()


if __name__ == "__main__":
    main()
