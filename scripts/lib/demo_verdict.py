"""The demo's verdict: balances the gateways' ledgers against what the orders keep.

usage: demo_verdict.py KEPT_FEN LEDGER.json…   (exit code 1 when the books do not balance)
"""

import json
import sys
from pathlib import Path


def yuan(fen: int) -> str:
    return f"¥{fen // 100}.{fen % 100:02d}"


def main() -> int:
    kept = int(sys.argv[1])
    ledgers = [json.loads(Path(name).read_text()) for name in sys.argv[2:]]
    money_in = sum(ledger["total_in"].get("CNY", 0) for ledger in ledgers)
    sent_back = sum(ledger["total_refunded"].get("CNY", 0) for ledger in ledgers)
    refunds = sum(ledger["refunds"] for ledger in ledgers)
    twice = sum(
        ledger["duplicates"] + len(ledger["payments_refunded_twice"]) for ledger in ledgers
    )
    sentence = (
        f"{yuan(money_in)} came in, {yuan(kept)} is kept for paid orders, "
        f"{yuan(sent_back)} went back in {refunds} refunds"
    )
    if money_in != kept + sent_back or twice:
        print(f"Verdict: the books do not balance: {sentence}, {twice} were paid out twice.")
        return 1
    print(f"Verdict: {sentence}, each exactly once.")
    return 0


sys.exit(main())
