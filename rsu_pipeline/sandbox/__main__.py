"""Command line: ``python -m rsu_pipeline.sandbox --port 0 --scale small --seed 7``."""

import argparse
import asyncio
import gc
import sys
from collections.abc import Sequence

import msgspec

from rsu_pipeline.sandbox.scales import SCALES, Spec, build
from rsu_pipeline.sandbox.server import Settings, serve


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sandbox", description="A local simulation of the RunSignup REST API.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--allow-remote", action="store_true", help="permit a host other than 127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 (the default) takes a free port")
    parser.add_argument("--scale", choices=SCALES, default="small")
    parser.add_argument("--spec", default=None, help="sizes of the custom scale, as JSON")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--now", type=float, default=None, metavar="EPOCH", help="where the simulated clock starts")
    parser.add_argument("--live", action="store_true", help="let people register, move and leave by themselves")
    parser.add_argument("--live-interval", type=float, default=4.0, metavar="SECONDS")
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--exit-with-parent", action="store_true", help="end when the starting process is gone")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Builds the world and serves it until told to stop; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.host != "127.0.0.1" and not options.allow_remote:
        parser.error("The sandbox listens on 127.0.0.1 only; pass --allow-remote to choose another host.")
    try:
        spec = msgspec.json.decode(options.spec, type=Spec) if options.spec else None
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        parser.error(f"--spec: {error}")
    world = build(options.scale, options.seed, options.now, spec)
    # The built world never becomes garbage, so the collector need not walk it again and again.
    gc.collect()
    gc.freeze()
    world.switches.latency_ms = options.latency_ms
    interval = options.live_interval if options.live else None
    asyncio.run(serve(world, Settings(options.host, options.port, interval, options.exit_with_parent)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
