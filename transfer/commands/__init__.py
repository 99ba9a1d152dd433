"""The commands of ``python -m transfer``: one file each, with ``add_options`` and ``run``."""
