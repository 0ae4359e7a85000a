// Package webapi serves Tahoe-LAFS's web API (docs/frontends/webapi.rst) on
// localhost, so that the tahoe command, magic-folder and other frontends run
// unchanged on our node.
//
// It is the first part of it:
//
//	GET    /                 the welcome page; ?t=json: introducers and servers
//	PUT    /uri              store a file; ?format=SDMF or MDMF a mutable one, of a
//	                         given key with private-key=; ?t=mkdir a directory
//	POST   /uri              ?t=upload (a form's field "file"), mkdir, mkdir-with-children, mkdir-immutable
//	GET    /uri?uri=CAP      redirect to /uri/CAP
//	GET    /uri/CAP[/PATH]   a file, with ranges (HEAD too); ?t=json, uri, readonly-uri
//	PUT    /uri/CAP[/PATH]   store a file there; ?offset=N into a mutable one; ?t=uri
//	                         link a cap; ?t=mkdir
//	POST   /uri/CAP[/PATH]   ?t=mkdir, mkdir-with-children, mkdir-immutable, upload, uri, unlink;
//	                         check, by verifycaps too; of a directory, what walks its tree:
//	                         start-manifest, start-deep-size, start-deep-stats and
//	                         start-deep-check with ophandle=, stream-manifest, stream-deep-check
//	DELETE /uri/CAP/PATH     unlink
//	       /cap is /uri; /file/CAP/NAME and /named/CAP/NAME download
//	GET    /operations/H     what was started with ophandle=H; POST ?t=cancel ends it
//	GET    /statistics       figures under Tahoe's names; ?t=json, openmetrics
//	       /private/…        what the node mounts there, with Authorization: tahoe-lafs TOKEN
//
// A PUT that stores a file and says "Accept: application/x-ndjson" (no browser or
// frontend of Tahoe's does) is answered with lines of JSON: see Told.
//
// Status codes, JSON shapes and error texts are those of Tahoe-LAFS 1.20. Unlike
// there, a request whose Host is not this machine's loopback, or whose Origin is
// another page's, is refused with 403: any web page could drive the node otherwise.
//
// New gives an http.Handler that is safe for concurrent use; the operations behind
// their handles are its only state. It deliberately lacks HTML beyond plain pages.
package webapi
