"""``protocols``: list the papers' protocols, or say what one fixes."""

import argparse
import json
from collections.abc import Sequence

from transfer.protocols.table import PROTOCOLS, get_protocol


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the command's options."""
    parser.add_argument("protocol", nargs="?", help="the protocol to describe (default: list them all)")


def run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Print one line per protocol, or what one protocol fixes."""
    if options.protocol is None:
        for protocol in PROTOCOLS.values():
            print(f"{protocol.stage:<18}  {protocol.id:<24}  {protocol.source.partition(';')[0]}")
        return
    protocol = get_protocol(options.protocol)
    print(f"{protocol.id}: {protocol.stage}, scored by {protocol.metric}\n{protocol.source}\n")
    print(json.dumps(protocol.fixed(), indent=2))
