// Package foolscap speaks Foolscap: calls between objects that live in tubs, over
// connections authenticated by certificates.
//
// A Tub has a certificate; its id is the base32 of the certificate's SHA-1, and
// whoever connects checks that id, nothing else: validity dates, names and
// authorities mean nothing here. A tub offers Objects, named ones by their
// swissnum (Tub.Register), others by sending them along as arguments or answers;
// a peer holds them as Remotes and calls them. Begin with New, then Tub.Serve for
// a listener, Tub.Reference for one call to a FURL, Tub.Keep for a lasting
// connection.
//
// # On the wire
//
// (Foolscap doc/specifications/pb.rst; foolscap/negotiate.py, broker.py, call.py
// and referenceable.py decide where they differ.)
//
//  1. Plaintext. The client sends
//     GET /id/TUBID HTTP/1.1, Host, Upgrade: TLS/1.0, Connection: Upgrade;
//     the server answers HTTP/1.1 101 Switching Protocols, Upgrade: TLS/1.0, PB/1.0.
//  2. TLS, both sides with their tub's certificate.
//  3. Both send a hello: "key: value" lines, sorted, CRLF, ended by an empty line:
//     banana-negotiation-range: 3 3, initial-vocab-table-range: 0 1, my-tub-id,
//     my-incarnation, and of a client last-connection ("none 0", or what it heard
//     last as current-connection).
//  4. The side with the greater tub id is the master. It sends the decision:
//     banana-decision-version: 3, initial-vocab-table-index: 1 HASH,
//     current-connection: INCARNATION SEQNUM; or banana-decision-version and error.
//     One connection joins two tubs: the master refuses a second one unless the
//     hello shows that the first is dead (negotiate.py, compareOfferAndExisting).
//  5. Banana messages (package banana):
//     call (reqid, clid, method, arguments (count, positional.., name, value, ..))
//     answer (reqid, value), error (reqid, copyable Failure)
//     with values my-reference (clid, interface [, furl]), your-reference (clid)
//     and their-reference (gift id, furl). clid 0 is the connection itself:
//     getReferenceByName(name), decref(clid, count), decgift(giftID, count).
//     reqid 0 wants no answer. PING keeps an idle connection alive.
//
// # Promises
//
// Calls to one object on one connection run one after another, in the order in
// which they were sent; calls to different objects run at the same time. What
// waits in memory for a peer, in either direction, is bounded, as are its
// messages, references and connections. FURLs and swissnums are in no error and
// no log. A reference into the own tub works without any network.
//
// Not here: gifts (third-party references are refused, as Tahoe refuses them),
// redirects, and Foolscap's logging ports.
package foolscap
