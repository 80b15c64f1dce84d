#!/usr/bin/env python3
"""Computes how many events a second 1 to 16 servers apply, as slices and as nodes of Citus, and how many a rate needs.

sizing.py [--cost US] [--per-doubling SHARE] [--workers N] [--wal BYTES] [--event BYTES] [--profile BYTES]
          [--customers N] [--days N] [--reserve SHARE] [--rate EVENTS] [--own SHARE] [--foreign US] [--foreign-by-key US]

Everything follows from figures that bench/run.sh and bench/citus.sh print, which are the defaults:
  cost            time of one worker for an event, in microseconds; a worker has a core
  per-doubling    what is left of a worker's rate when there are twice as many on a server
  own             what an event costs on the node of its customer, where Citus distributes the profiles, as a multiple of cost
  foreign         time of one worker for a message of another node's customer, in microseconds
  foreign-by-key  the same with message_key => 'customer'
Slices share nothing, so n of them apply n times what one does: bench/slices.sh measures that an event costs the same.
Nodes of Citus read each message, so all n of them take (own + foreign * (n - 1)) for one. With partitioner => 'citus' no node
reads messages of others. A part of each server is kept in reserve, for catching up, vacuum and queries.
"""
import argparse
import math

SERVERS = (1, 2, 4, 8, 16)


def server_time(args):
    """Microseconds in a second that the workers of one server have when it is not in reserve."""
    return args.workers * 1e6 * args.per_doubling ** math.log2(args.workers) * (1 - args.reserve)


def server_rate(args):
    """Events a second that one server applies."""
    return server_time(args) / args.cost


def nodes_rate(args, nodes, foreign):
    """Events a second that nodes of Citus apply together."""
    return nodes * server_time(args) / (args.own * args.cost + foreign * (nodes - 1))


def nodes_for_rate(args, foreign):
    """How many nodes apply the wanted rate; None: however many there are, they do not."""
    return next((nodes for nodes in range(1, 1001) if nodes_rate(args, nodes, foreign) >= args.rate), None)


def row(servers, args):
    rate = servers * server_rate(args)
    each = rate / servers
    ids = args.id_bytes * each * 86400 * args.days
    profiles = args.profile * args.customers / servers
    return (f"{servers:7d}  {rate:10,.0f}  {servers * args.workers:10d}  {each * args.wal / 1e6:11.0f}  {each * args.event * 8 / 1e9:17.2f}"
            f"  {(ids + profiles) / 1e12:11.2f}")


def nodes_row(args, nodes):
    rates = [nodes_rate(args, nodes, foreign) for foreign in (args.foreign, args.foreign_by_key, 0)]
    gigabits = [args.event * 8 / 1e9 * rate for rate in (rates[0], rates[1], rates[2] / nodes)]
    return f"{nodes:5d}" + "".join(f"  {rate:10,.0f} {each:5.2f}" for rate, each in zip(rates, gigabits))


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
    parser.add_argument("--own", type=float, default=1.22)
    parser.add_argument("--foreign", type=float, default=2.5)
    parser.add_argument("--foreign-by-key", type=float, default=1.0)
    parser.add_argument("--rate", type=float, default=1e6, help="events a second that are wanted")
    args = parser.parse_args()
    print("servers    events/s  partitions  WAL, MB/s *  from Kafka, Gb/s *  disk, TB *")
    for servers in SERVERS:
        print(row(servers, args))
    print("* of each server; partitions is the least number of them")
    print(f"{args.rate:,.0f} events/s need {math.ceil(args.rate / server_rate(args))} servers with {args.workers} workers each")
    print()
    print("nodes of Citus: events/s together, and Gb/s from Kafka to each")
    print("nodes  any messages         keyed by customer    partitioned as shards")
    for nodes in SERVERS:
        print(nodes_row(args, nodes))
    needed = [nodes_for_rate(args, foreign) or "never enough" for foreign in (args.foreign, args.foreign_by_key, 0)]
    print(f"{args.rate:,.0f} events/s need nodes: {needed[0]}, keyed by customer {needed[1]}, partitioned as shards {needed[2]}")


main()
