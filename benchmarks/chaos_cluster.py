"""A Ray cluster in a process of its own: Ray ends any process whose connection to a cluster it has lost.

    python benchmarks/chaos_cluster.py FOLDER CPUS [CPUS ...]

Starts a node (a raylet) for each number of CPUs, says where it is in a JSON line, and ends with its standard input.
"""

from __future__ import annotations

import json
import sys


def main(temp: str, *cpus: str) -> None:
    from ray.cluster_utils import Cluster

    head = {"num_cpus": int(cpus[0]), "include_dashboard": False, "temp_dir": temp}
    made = Cluster(initialize_head=True, head_node_args=head)
    nodes = [made.head_node, *(made.add_node(num_cpus=int(count)) for count in cpus[1:])]
    raylets = [node.all_processes["raylet"][0].process.pid for node in nodes]
    print(json.dumps({"address": made.address, "raylets": raylets}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
