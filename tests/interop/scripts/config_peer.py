"""The real Tahoe on a node directory: config_peer.py VERB DIR.

read   prints as JSON what Tahoe reads there
hold   takes the directory as `tahoe run` does, prints "held", and lets it go when
       its standard input closes
try    says "held" or "in the way"
lock   holds the short lock of running.process as `hold` says
"""

import json
import os
import sys

from filelock import FileLock
from foolscap.api import Tub
from twisted.python.filepath import FilePath

from allmydata import client, node
from allmydata.crypto import ed25519
from allmydata.introducer import server
from allmydata.scripts.tahoe_run import get_pidfile, identify_node_type
from allmydata.util import base32, pid

verb, base = sys.argv[1:]
pidfile = FilePath(get_pidfile(base))


def read():
    kind = identify_node_type(base)
    if kind == "client":
        cfg = client.read_config(base, "client.port")
    else:
        cfg = node.read_config(base, "client.port", ["introducer.furl"], _valid_config=server._valid_config())
    out = {"kind": kind, "nickname": cfg.nickname, "sections": {}}
    for section in cfg.config.sections():
        out["sections"][section] = cfg.enumerate_section(section)
    out["introducers"] = {name: furl for name, (furl, _) in cfg.get_introducer_configuration().items()}
    out["tubid"] = Tub(certFile=cfg.get_private_path("node.pem")).tubID
    for name in ("secret", "convergence"):
        out[name] = base32.a2b(cfg.get_private_config(name).encode("ascii")).hex()
    _, public = ed25519.signing_keypair_from_string(cfg.get_private_config("node.privkey").encode("ascii"))
    out["public"] = ed25519.string_from_verifying_key(public).decode("ascii")
    out["token"] = cfg.get_private_config("api_auth_token")
    return out


if verb == "read":
    print(json.dumps(read()))
elif verb == "hold":
    pid.check_pid_process(pidfile)
    print("held", flush=True)
    sys.stdin.read()
    pid.cleanup_pidfile(pidfile)
elif verb == "try":
    try:
        pid.check_pid_process(pidfile)
    except pid.ProcessInTheWay as e:
        print("in the way:", e)
    else:
        pid.cleanup_pidfile(pidfile)
        print("held")
elif verb == "lock":
    with FileLock(os.path.join(base, "running.process.lock")):
        print("held", flush=True)
        sys.stdin.read()
