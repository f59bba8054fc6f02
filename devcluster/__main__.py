"""`python -m devcluster`: the development cluster, for people."""

import argparse
import json
import signal
import sys
from pathlib import Path
from types import FrameType

from devcluster.base import PACKAGES, base
from devcluster.cluster import Cluster
from devcluster.engine import engine
from devcluster.errors import DevclusterError
from devcluster.images import names
from devcluster.process import say


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m devcluster", description=__doc__)
    parser.add_argument("--name", help="name of the cluster (default: $DEVCLUSTER_NAME, else skerry)")
    parser.add_argument("--kubeconfig", type=Path, help="kubeconfig file (default: one of its own in the cache folder)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="make the cluster, or mend it")
    commands.add_parser("down", help="remove the cluster; what was built stays in the cache")
    commands.add_parser("status", help="say whether the cluster is up, and with which nodes")
    commands.add_parser("kubeconfig", help="print the path of the kubeconfig file")
    load = commands.add_parser("load", help="load images into the nodes that do not have them")
    load.add_argument("images", nargs="+", metavar="IMAGE_OR_ARCHIVE")
    uplink = commands.add_parser("uplink", help="cut a node from the others, or heal that")
    uplink.add_argument("action", choices=["cut", "restore"])
    uplink.add_argument("node")
    images = commands.add_parser("images", help="build the project's images and print their references as JSON")
    images.add_argument("names", nargs="*", help="default: those that Skerry cannot do without")
    images.add_argument("--all", action="store_true", help="all of them, those of further tools too")
    images.add_argument("--load", action="store_true", help="also load them into the nodes")
    bases = commands.add_parser("base", help="make a Debian base image and print its reference")
    bases.add_argument("suite", choices=sorted(PACKAGES))
    return parser


def _run(arguments: argparse.Namespace) -> None:
    cluster = Cluster.default(arguments.name, arguments.kubeconfig)
    match arguments.command:
        case "up":
            cluster.up()
            say(f"export KUBECONFIG={cluster.kubeconfig}")
        case "down":
            cluster.down()
        case "status":
            print(cluster.status(), end="")
        case "kubeconfig":
            print(cluster.kubeconfig)
        case "load":
            cluster.load(arguments.images)
        case "uplink":
            (cluster.cut if arguments.action == "cut" else cluster.restore)(arguments.node)
        case "images":
            built = cluster.images(*(names() if arguments.all else arguments.names))
            if arguments.load:
                cluster.load(built.values())
            print(json.dumps(built, indent=2))
        case "base":
            print(base(engine(), arguments.suite))


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Run one command; exit 1 with one clear message when it fails."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _run(_parser().parse_args())
    except DevclusterError as error:
        print(f"devcluster: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("devcluster: interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
