"""A program on the real Foolscap, for foolscap_test.go.

usage: foolscap_peer.py PEMFILE PORT SWISSNUM [FURL]

It offers an object at SWISSNUM and prints its FURL. Given a FURL, it calls that
object in every way it knows, and prints what came of it as one line of JSON.
"""
import json
import os
import sys

from foolscap.api import Referenceable, RemoteException, Tub, Violation
from twisted.internet import defer, reactor

RICH = [1, -1, 2**31, -2**40, 2**70, 1.5, None, True, b"bytes", "h\u00e9", [1, [2]], (b"t", 3),
        {b"k": [b"v"]}, {"u": 1}]


class Echo(Referenceable):
    held = None

    def remote_echo(self, *args, **kwargs):
        return [list(args), kwargs]

    def remote_set(self):
        return {(b"one", b"two")}

    def remote_shared(self):
        pair = [1, 2]
        return [pair, pair]

    def remote_fail(self):
        raise ValueError("sorry")

    def remote_hold(self, rref):
        self.held = rref

    def remote_drop(self):
        self.held = None

    def remote_give_back(self):
        return self.held

    @defer.inlineCallbacks
    def remote_back(self, rref):
        answer = yield rref.callRemote("echo", b"from", u"python", n=7)
        return answer


def plain(value):
    if isinstance(value, bytes):
        return "bytes:" + value.decode("utf-8", "replace")
    if isinstance(value, (list, tuple, set)):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {str(plain(k)): plain(v) for k, v in value.items()}
    return value


@defer.inlineCallbacks
def exercise(tub, furl):
    out = {}
    rref = yield tub.getReference(furl)
    answer = yield rref.callRemote("echo", *RICH)
    out["echo"] = list(answer) == RICH
    answer = yield rref.callRemote("echo", b"x" * 200000)
    out["large"] = answer == [b"x" * 200000]
    for method in ("fail", "nonsense"):
        try:
            yield rref.callRemote(method)
            out[method] = "no exception"
        except (RemoteException, Violation) as e:
            out[method] = "raised"
        except Exception as e:
            out[method] = repr(e)
    mine = Echo()
    answer = yield rref.callRemote("back", mine)
    out["back"] = plain(answer)
    answer = yield rref.callRemote("echo", mine)
    out["same"] = answer[0] is mine
    rref.callRemoteOnly("echo", 1)
    for i in range(300):
        rref.callRemoteOnly("count", i)
    out["count"] = yield rref.callRemote("counted")
    answer = yield rref.callRemote("named", one=1, two=b"2")
    out["named"] = plain(answer)
    try:
        yield tub.getReference(furl[:-1] + "_")
        out["wrong"] = "found"
    except Exception:
        out["wrong"] = "refused"
    return out


def main():
    pem, port, swissnum = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    tub = Tub(certFile=pem)
    tub.setOption("accept-gifts", False)
    tub.setOption("expose-remote-exception-types", False)  # as Tahoe
    tub.setOption("keepaliveTimeout", 1)
    tub.listenOn("tcp:%d:interface=127.0.0.1" % port)
    tub.setLocation("tcp:127.0.0.1:%d" % port)
    tub.startService()
    print("FURL " + tub.registerReference(Echo(), name=swissnum), flush=True)
    if len(sys.argv) > 4:
        d = exercise(tub, sys.argv[4])
        d.addCallback(lambda out: print("RESULT " + json.dumps(out), flush=True))
        d.addErrback(lambda f: print("FAILED " + f.getTraceback(), flush=True))


reactor.callWhenRunning(main)
reactor.run()
