"""Prints what bench/drivers measured: medians, as refunds a second and as shares of RSA's limit.

usage: drivers.py BENCHMARK.json RSA_SIGNATURES_PER_S
"""

import json
import sys
from pathlib import Path


def main() -> None:
    runs = json.loads(Path(sys.argv[1]).read_text())["benchmarks"]
    rsa_per_s = float(Path(sys.argv[2]).read_text())
    median_ns = {
        run["run_name"]: run["cpu_time"] for run in runs if run.get("aggregate_name") == "median"
    }
    ours_per_s = 1e9 / median_ns["rsa2048_private_operation"]
    print("\nRefunds a second in one thread (medians of 5)")
    print(f"  RSA 2048 private operations: {rsa_per_s:8.0f} by `openssl speed rsa2048`,"
          f" {ours_per_s:.0f} by payonce's own call")
    print(f"  {'driver':16} {'build, sign':>12} {'verify, read':>13} {'both':>8}   of RSA's limit")
    for name in sorted({run.split("/")[0] for run in median_ns if "/" in run}):
        build, read = median_ns[f"{name}/build"], median_ns[f"{name}/read"]
        # A driver that signs by RSA cannot be faster than it.
        share = median_ns["rsa2048_private_operation"] / (build + read)
        signs = name in ("payonce_wechat", "payonce_alipay")
        print(f"  {name:16} {1e9 / build:12.0f} {1e9 / read:13.0f} {1e9 / (build + read):8.0f}"
              + (f"   {share:6.0%}" if signs else "        -"))


main()
