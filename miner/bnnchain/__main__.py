"""``python -m bnnchain`` is ``bnnchain``."""

from bnnchain.cli import main

if __name__ == "__main__":
    main()
