"""Reads each snapshot that a Personal directory names, and its ancestors, with
magic-folder's own code, which verifies their signatures.

Usage: folder_peer.py NODE_URL PERSONAL_READCAP; prints one JSON line a snapshot.
"""
import json
import sys

from hyperlink import DecodedURL
from magic_folder.magicpath import magic2path
from magic_folder.snapshot import create_snapshot_from_capability
from magic_folder.tahoe_client import create_tahoe_client
from magic_folder.util.capabilities import Capability
from treq.client import HTTPClient
from twisted.internet.defer import inlineCallbacks
from twisted.internet.task import react
from twisted.web.client import Agent


@inlineCallbacks
def main(reactor, node, personal):
    client = create_tahoe_client(DecodedURL.from_text(node), HTTPClient(Agent(reactor)))
    entries = yield client.list_directory(Capability.from_string(personal))
    for mangled, (head, _) in sorted(entries.items()):
        if mangled == "@metadata":
            continue
        waiting, seen = [head.danger_real_capability_string()], set()
        while waiting:
            cap = waiting.pop()
            if cap in seen:
                continue
            seen.add(cap)
            snap = yield create_snapshot_from_capability(Capability.from_string(cap), client)
            if snap.relpath != magic2path(mangled):
                raise ValueError("the entry {!r} names {!r}".format(mangled, snap.relpath))
            waiting.extend(snap.parents_raw)
            print(json.dumps({"relpath": snap.relpath, "author": snap.author.name, "head": len(seen) == 1,
                              "deleted": snap.content_cap is None, "parents": len(snap.parents_raw)}))


react(main, sys.argv[1:])
