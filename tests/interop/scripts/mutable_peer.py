"""The real Tahoe's mutable files and directories on servers in memory.

Reads a job from standard input: {"write": cap, "k": k, "n": n, "servers":
[{"seed": hex, "shares": {number: base64}}], "contents": base64, perhaps with
"offset": n, or "entries": {name: cap}}. Tahoe reads and verifies the file, or lists
the directory, then overwrites it, or the part of it from the offset on, or sets the
entries; or, with "check", it checks the file, verifies it, and repairs it. Prints what
it saw and the shares as they are then.
"""

import base64
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "vectors"))

from twisted.internet import defer, task
from zope.interface import classImplements

from allmydata.client import SecretHolder
from allmydata.interfaces import IDisplayableServer, SDMF_VERSION
from allmydata.monitor import Monitor
from allmydata.mutable.publish import MutableData
from allmydata.mutable.common import UnrecoverableFileError
from allmydata.nodemaker import NodeMaker

from gen_mutable import Broker, Server, Slots


def b64(b):
    return base64.b64encode(b).decode("ascii")


@defer.inlineCallbacks
def main(_reactor):
    job = json.load(sys.stdin)
    servers = []
    for i, s in enumerate(job["servers"]):
        server = Server(i, bytes.fromhex(s["seed"]))
        server.slots.shares = {int(n): base64.b64decode(b) for n, b in s["shares"].items()}
        servers.append(server)
    maker = NodeMaker(Broker(servers), SecretHolder(b"a peer's secret", b"convergence"), None, None, None,
                      {"k": job["k"], "n": job["n"]}, SDMF_VERSION, None)
    node = maker.create_from_cap(job["write"].encode("ascii"))
    out = {}
    if job.get("check"):
        classImplements(Server, IDisplayableServer)
        Slots.advise_corrupt_share = lambda self, *a: defer.succeed(None)
        out["checks"] = []
        for whole in (False, True):
            r = yield maker.create_from_cap(job["write"].encode("ascii")).check(Monitor(), verify=whole)
            out["checks"].append(account(r))
        try:
            r = yield maker.create_from_cap(job["write"].encode("ascii")).check_and_repair(Monitor(), verify=True)
            out["repaired"] = r.get_repair_attempted() and r.get_repair_successful()
        except UnrecoverableFileError:
            out["gave_up"] = True
    elif "entries" in job:
        children = yield node.list()
        out["listed"] = {name: {"write": (c.get_write_uri() or b"").decode("utf-8"),
                                "read": (c.get_readonly_uri() or b"").decode("utf-8"), "metadata": m}
                         for name, (c, m) in children.items()}
        for name, cap in job["entries"].items():
            yield node.set_uri(name, cap.encode("ascii"), None)
    else:
        out["contents"] = b64((yield node.download_best_version()))
        smap = yield node.get_servermap("MODE_CHECK")
        out["versions"] = sorted(v[0] for v in smap.recoverable_versions())
        out["shares"] = len(smap.get_known_shares())
        out["bad"] = len(smap.get_bad_shares())
        version = yield node.get_mutable_version(smap)
        bad = yield version._node._do_serialized(verify, node, smap)
        out["corrupt"] = len(bad)
        data = MutableData(base64.b64decode(job["contents"]))
        if "offset" in job:
            best = yield node.get_best_mutable_version()
            yield best.update(data, job["offset"])
        else:
            yield node.overwrite(data)
    out["servers"] = [{str(n): b64(b) for n, b in s.slots.shares.items()} for s in servers]
    json.dump(out, sys.stdout)


def account(r):
    return {
        "healthy": r.is_healthy(), "recoverable": r.is_recoverable(), "happiness": r.get_happiness(),
        "good": r.get_share_counter_good(), "wrong": r.get_share_counter_wrong(), "hosts": r.get_host_counter_good_shares(),
        "needed": r.get_encoding_needed(), "expected": r.get_encoding_expected(),
        "recoverables": r.get_version_counter_recoverable(), "unrecoverables": r.get_version_counter_unrecoverable(),
        "corrupt": len(r.get_corrupt_shares()), "responding": len(r.get_servers_responding()),
        "summary": r.get_summary(), "sharemap": {k: len(v) for k, v in r.get_sharemap().items()},
    }


def verify(node, smap):
    from allmydata.mutable.retrieve import Retrieve
    return Retrieve(node, node._storage_broker, smap, smap.best_recoverable_version(), verify=True).download()


task.react(main)
