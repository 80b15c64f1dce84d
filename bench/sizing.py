#!/usr/bin/env python3
"""Computes how many events a second slices on 1 to 16 servers apply, and how many servers a rate needs.

sizing.py [--cost US] [--per-doubling SHARE] [--workers N] [--wal BYTES] [--event BYTES] [--profile BYTES]
          [--customers N] [--days N] [--reserve SHARE] [--rate EVENTS]

Everything follows from figures that bench/run.sh prints, which are the defaults:
  cost          time of one worker for an event, in microseconds; a worker has a core
  per-doubling  what is left of a worker's rate when there are twice as many on a server
Servers share nothing, so n of them apply n times what one does: bench/slices.sh measures that an event costs the same.
A part of each server is kept in reserve, for catching up, vacuum and queries.
"""
import argparse
import math

SERVERS = (1, 2, 4, 8, 16)


def server_rate(args):
    """Events a second that one server applies when it is not in reserve."""
    return args.workers * 1e6 / args.cost * args.per_doubling ** math.log2(args.workers) * (1 - args.reserve)


def row(servers, args):
    rate = servers * server_rate(args)
    each = rate / servers
    ids = args.id_bytes * each * 86400 * args.days
    profiles = args.profile * args.customers / servers
    return (f"{servers:7d}  {rate:10,.0f}  {servers * args.workers:10d}  {each * args.wal / 1e6:11.0f}  {each * args.event * 8 / 1e9:17.2f}"
            f"  {(ids + profiles) / 1e12:11.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cost", type=float, default=9.3, help="us of a worker an event")
    parser.add_argument("--per-doubling", type=float, default=0.92)
    parser.add_argument("--workers", type=int, default=4, help="of each server, a core each")
    parser.add_argument("--wal", type=float, default=560, help="bytes an event")
    parser.add_argument("--event", type=float, default=240, help="bytes of a message")
    parser.add_argument("--id-bytes", type=float, default=12.3, help="bytes on disk of an event id")
    parser.add_argument("--profile", type=float, default=1000, help="bytes on disk of a profile that is scored")
    parser.add_argument("--customers", type=float, default=1e8)
    parser.add_argument("--days", type=float, default=7, help="for which event ids are kept")
    parser.add_argument("--reserve", type=float, default=0.5)
    parser.add_argument("--rate", type=float, default=1e6, help="events a second that are wanted")
    args = parser.parse_args()
    print("servers    events/s  partitions  WAL, MB/s *  from Kafka, Gb/s *  disk, TB *")
    for servers in SERVERS:
        print(row(servers, args))
    print("* of each server; partitions is the least number of them")
    print(f"{args.rate:,.0f} events/s need {math.ceil(args.rate / server_rate(args))} servers with {args.workers} workers each")


main()
