"""The commands of ``python -m pretext``: one file each, with ``add_options`` and ``run``."""
