// Package introducer is both ends of Tahoe's introduction: servers publish signed
// announcements to an introducer, which passes them to all who subscribe.
//
// A Client is a node's connection to one introducer: NewClient, then Publish and
// Subscribe. A Server is an introducer: NewServer, then Register. Both take a
// foolscap.Tub; a node that runs an introducer and uses it needs no network for
// that.
//
// # Over Foolscap
//
// (allmydata/introducer/interfaces.py, client.py, server.py, common.py of 1.20.)
//
//	the introducer, RIIntroducerPublisherAndSubscriberService_v2.tahoe.allmydata.com
//	  get_version() -> dict of bytes: "http://allmydata.org/tahoe/protocols/introducer/v2": {},
//	                   "application-version": bytes
//	  publish_v2(announcement, canary) -> None
//	  subscribe_v2(subscriber, service_name bytes, subscriber_info dict of bytes) -> None
//	a subscriber, RIIntroducerSubscriberClient_v2.tahoe.allmydata.com
//	  announce_v2(announcements: a set) -> None
//
// An announcement is a tuple of three byte strings:
//
//	message    UTF-8 JSON, an object: version 0, service-name, nickname, my-version,
//	           oldest-supported, app-versions, seqnum, nonce; for "storage" also
//	           anonymous-storage-FURL, anonymous-storage-NURLs, permutation-seed-base32
//	signature  "v0-" and the base32 of the Ed25519 signature of message
//	key        "v0-" and the base32 of the public key
//
// There is one announcement for each service and key. A new one takes the old
// one's place when its seqnum is greater.
//
// # The cache
//
// private/introducer_PETNAME_cache.yaml (allmydata/node.py,
// get_introducer_configuration; client.py, _save_announcements) is a YAML list of
//
//   - ann: the message's object
//     key_s: v0-...
//
// so that a node finds its servers when the introducer is away. It holds the
// servers' FURLs and is a secret. It carries no signatures: it is trusted as every
// file in private/ is.
//
// # Promises
//
// Nobody sees an announcement before its signature, its types and its lengths were
// checked; nothing that an announcer sends makes a server or client keep more than
// a fixed amount. Announcements print without their addresses.
package introducer
