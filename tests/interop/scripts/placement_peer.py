"""
Asks Tahoe-LAFS where the shares of a file go (immutable/happiness_upload.py).

Standard input is a JSON list of {"writable": [server ..], "readonly": [server ..],
"total": n, "held": {server: [share ..]}}. The answer has for each of them

  permuted   the placement if Tahoe's sets kept the order of the lists
  set        the placement as Tahoe runs: it depends on PYTHONHASHSEED
  others     placements for other orders of the servers and of their replies, as
             many as the argument says
  before     happiness of what is held
  after      happiness afterwards, for permuted, set and others, in this order
  best       the highest that there can be

A placement is {share: server}. Afterwards a share stands on a server if it did
before or if the server is writable.
"""

import json
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "vectors"))

from allmydata.immutable import happiness_upload
from allmydata.util.happinessutil import servers_of_happiness
from gen_immutable import OrderedSet

OTHERS = int(sys.argv[1])


def place(kind, writable, readonly, total, held):
    happiness_upload.set = kind
    got = happiness_upload.share_placement(
        kind(s.encode() for s in writable), kind(s.encode() for s in readonly), kind(range(total)),
        {s.encode(): kind(shares) for s, shares in held.items()})
    return {share: server.decode() for share, server in got.items()}


def happiness(held, placed=()):
    where = {}
    for server, shares in held.items():
        for share in shares:
            where.setdefault(share, set()).add(server)
    for share, server in placed:
        where.setdefault(share, set()).add(server)
    return servers_of_happiness(where)


def answer(rng, writable, readonly, total, held):
    def shuffled(items):
        return rng.sample(list(items), len(items))

    answers = [place(OrderedSet, writable, readonly, total, held), place(set, writable, readonly, total, held)]
    for _ in range(OTHERS):
        replies = {s: shuffled(held[s]) for s in shuffled(held)}
        answers.append(place(OrderedSet, shuffled(writable), shuffled(readonly), total, replies))
    after = [happiness(held, [(share, s) for share, s in a.items() if s in writable]) for a in answers]
    everywhere = [(share, s) for s in writable for share in range(total)]
    return {"permuted": answers[0], "set": answers[1], "others": answers[2:], "before": happiness(held), "after": after,
            "best": happiness({s: held[s] for s in readonly if s in held}, everywhere)}


json.dump([answer(random.Random(i), **case) for i, case in enumerate(json.load(sys.stdin))], sys.stdout)
