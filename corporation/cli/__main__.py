"""`python -m corporation.cli` is the same as the `corporation` command."""

from corporation.cli.app import main

if __name__ == "__main__":
    main()
