"""`python -m homeostat` is the command `homeostat`."""

from homeostat.cli import main

if __name__ == "__main__":
    main()
