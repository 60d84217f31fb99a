"""``python -m limbeck``, which ``accelerate launch -m limbeck`` needs."""

from limbeck.commands.cli import main

if __name__ == "__main__":
    main()
