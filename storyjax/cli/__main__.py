"""`python -m storyjax.cli` is the command `storyjax`."""

from storyjax.cli import main

if __name__ == "__main__":
    main()
