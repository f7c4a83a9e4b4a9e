"""`python -m daemon` is `astrad`."""

from daemon.cli import main

if __name__ == "__main__":
    main()
