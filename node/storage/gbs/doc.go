// Package gbs is Tahoe-LAFS's HTTPS storage protocol ("Great Black Swamp"), both
// ends, as Tahoe 1.20 speaks it (docs/specifications/http-storage-node-protocol.rst
// and, where they differ, allmydata/storage/http_server.py).
//
//	handler := gbs.NewServer(server.As(storage.Account{}), swissnum, gbs.Options{})
//	err := handler.Serve(ctx, listener, certificate)
//	client := gbs.NewClient(nurl, network.DialContext) // a storage.Client
//
// Every request names the swissnum of the NURL, and the secrets that it needs:
//
//	Authorization: Tahoe-LAFS base64(swissnum)
//	X-Tahoe-Authorization: lease-renew-secret base64(..)   (one header a secret)
//
//	path below /storage/v1/               secrets          success
//	GET   version                         -                200 CBOR
//	PUT   lease/SI                        renew cancel     204
//	POST  immutable/SI                    renew cancel up  200 CBOR
//	PATCH immutable/SI/N                  up               200, complete 201 CBOR
//	PUT   immutable/SI/N/abort            up               200
//	GET   immutable|mutable/SI/shares     -                200 CBOR
//	GET   immutable|mutable/SI/N          -                206, whole share 200, nothing there 204
//	POST  immutable|mutable/SI/N/corrupt  -                200
//	POST  mutable/SI/read-test-write      renew cancel we  200 CBOR
//
// Beside them ours alone, POST /warren/v1/watch: watch.go.
//
// Refused: 400 malformed, 401 wrong swissnum or secret, 404 no such share, 405
// nothing to abort any more, 406 and 415 not CBOR, 409 a conflicting write, 413 too
// large, 416 no usable range, 507 no room. Where Tahoe's server answers 500 to a bad
// request ours says what was bad.
//
// TLS: the server shows its node's self-signed certificate, the client pins the
// hash of its public key; names, dates and authorities mean nothing. HTTP/1.1 only.
package gbs
