"""Command line: ``python -m runsignup_sandbox --port 0 --scale small --seed 7``."""

import argparse
import asyncio
import gc
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from runsignup_sandbox.life import INTERVAL
from runsignup_sandbox.scales import SCALES, Spec, build
from runsignup_sandbox.server import Settings, serve
from runsignup_sandbox.small import add_newcomer, add_race_of_today
from runsignup_sandbox.state import Keeper, Origin, StateError, load
from runsignup_sandbox.world import World


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
    parser.add_argument(
        "--live-interval", type=float, default=INTERVAL, metavar="SECONDS", help="mean time between a partner's changes"
    )
    parser.add_argument(
        "--newcomer", nargs=3, metavar=("NAME", "KEY", "SECRET"), help="add a partner with one race, unless it is there"
    )
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument(
        "--state", type=Path, metavar="FILE", help="keep the world in FILE, and go on from it next time"
    )
    parser.add_argument("--save-every", type=float, default=30.0, metavar="SECONDS")
    parser.add_argument("--exit-with-parent", action="store_true", help="end when the starting process is gone")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Build the world, serve it until a signal comes, and return the exit code."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.host != "127.0.0.1" and not options.allow_remote:
        parser.error("The sandbox listens on 127.0.0.1 only; pass --allow-remote to choose another host.")
    try:
        spec = msgspec.json.decode(options.spec, type=Spec) if options.spec else None
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        parser.error(f"--spec: {error}")
    origin = Origin(options.scale, options.seed, spec)
    try:
        world, keeper = _world(origin, options.now, options.state)
        if options.live:
            add_race_of_today(world)
        if options.newcomer:
            add_newcomer(world, *options.newcomer)
        world.publish_all()
        # The world never becomes garbage, so the collector need not traverse it again and again.
        gc.collect()
        gc.freeze()
        world.switches.latency_ms = options.latency_ms
        interval = options.live_interval if options.live else None
        settings = Settings(options.host, options.port, interval, options.exit_with_parent, options.save_every)
        asyncio.run(serve(world, settings, keeper))
    except StateError as error:
        click.echo(str(error), err=True)
        return 2
    return 0


def _world(origin: Origin, now: float | None, path: Path | None) -> tuple[World, Keeper | None]:
    """Return the world of the file, or else a new one, with the keeper that saves it to the file."""
    if path is None:
        return build(origin.scale, origin.seed, now, origin.spec), None
    found = load(path)
    if found is not None:
        world, kept = found
        if kept != origin:
            click.echo(f"{path} holds a world of {kept}; it is used instead of one of {origin}.", err=True)
        return world, Keeper(world, kept, path)
    world = build(origin.scale, origin.seed, now, origin.spec)
    keeper = Keeper(world, origin, path)
    keeper.save()
    return world, keeper


if __name__ == "__main__":
    sys.exit(main())
