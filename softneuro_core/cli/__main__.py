"""``python -m softneuro_core.cli``."""

from softneuro_core.cli.root import main

main()
