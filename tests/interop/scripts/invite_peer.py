"""Plays Gridsync's part of an invite on the real magic-wormhole.

    python invite_peer.py send|legacy|receive MAILBOX [CODE]

Gridsync itself needs a screen; this sends and reads what gridsync/wormhole_.py
does. The code is printed as "code: CODE", what was received as "received: JSON".
"""
import json
import sys

from twisted.internet import defer, task
from wormhole import wormhole

APPID = "tahoe-lafs.org/invite"
SETTINGS = {
    "nickname": "Gridsync's grid",
    "introducer": "pb://%s@tcp:127.0.0.1:4321/%s" % ("a" * 31 + "q", "b" * 32),
    "shares-needed": "3",
    "shares-happy": "7",
    "shares-total": "10",
}


def say(text):
    print(text, flush=True)


@defer.inlineCallbacks
def main(reactor, mode, mailbox, code=None):
    w = wormhole.create(APPID, mailbox, reactor)
    yield w.get_welcome()
    if code:
        w.set_code(code)
    else:
        w.allocate_code()
        say("code: " + (yield w.get_code()))
    if mode == "send":
        w.send_message(json.dumps({"abilities": {"server-v1": {}}}).encode())
        hello = json.loads((yield w.get_message()))
        assert "client-v1" in hello["abilities"], hello
        w.send_message(json.dumps(json.dumps(SETTINGS)).encode())
    elif mode == "legacy":
        w.send_message(json.dumps({"offer": {"message": json.dumps(SETTINGS)}}).encode())
        hello = json.loads((yield w.get_message()))
        assert "client-v1" in hello["abilities"], hello
        answer = json.loads((yield w.get_message()))
        assert answer == {"answer": {"message_ack": "ok"}}, answer
    else:
        w.send_message(json.dumps({"abilities": {"client-v1": {}}}).encode())
        hello = json.loads((yield w.get_message()))
        assert "server-v1" in hello["abilities"], hello
        say("received: " + json.dumps(json.loads((yield w.get_message()))))
    yield w.close()
    say("done")


task.react(main, sys.argv[1:])
