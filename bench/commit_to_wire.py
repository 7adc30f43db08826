"""Prints the latency from commit to wire: commit times from PostgreSQL, arrivals from the gateway.

usage: commit_to_wire.py COMMITS LEDGER   (COMMITS: lines of refund_no, tab, seconds since 1970)
"""

import sqlite3
import statistics
import sys
from pathlib import Path


def main() -> int:
    commits = dict(line.split("\t") for line in Path(sys.argv[1]).read_text().splitlines())
    ledger = sqlite3.connect(f"file:{sys.argv[2]}?mode=ro", uri=True)
    arrivals = dict(ledger.execute("SELECT refund_no, min(at) FROM requests GROUP BY refund_no"))
    missing = commits.keys() - arrivals.keys()
    if missing or not commits:
        print(f"{len(missing)} of {len(commits)} refunds never reached the gateway")
        return 1
    latency_ms = sorted((arrivals[no] - float(at)) * 1000 for no, at in commits.items())
    print("commit to wire, ms (flush of both commits included)")
    print(f"  refunds  {len(latency_ms)}")
    print(f"  median   {statistics.median(latency_ms):.2f}")
    print(f"  p99      {latency_ms[int(len(latency_ms) * 0.99) - 1]:.2f}")
    print(f"  max      {latency_ms[-1]:.2f}")
    return 0


sys.exit(main())
