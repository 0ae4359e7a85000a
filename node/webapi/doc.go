// Package webapi serves Tahoe-LAFS's web API (docs/frontends/webapi.rst) on
// localhost, so that the tahoe command, magic-folder and other frontends run
// unchanged on our node.
//
//	GET    /                 the welcome page; ?t=json: introducers and servers, on an
//	                         introducer what it announces to how many
//	PUT    /uri              store a file; ?format=SDMF or MDMF a mutable one, of a
//	                         given key with private-key=; ?t=mkdir a directory
//	POST   /uri              ?t=upload (a form's field "file"), mkdir, mkdir-with-children,
//	                         mkdir-immutable; redirect_to_result=, when_done=
//	GET    /uri?uri=CAP      redirect to /uri/CAP
//	GET    /uri/CAP[/PATH]   a file, with ranges (HEAD too), or a directory's page; ?t=json,
//	                         uri, readonly-uri, info; rename-form of a directory. What
//	                         never changes has an ETag
//	PUT    /uri/CAP[/PATH]   store a file there; ?offset=N into a mutable one; ?t=uri
//	                         link a cap; ?t=mkdir
//	POST   /uri/CAP[/PATH]   ?t=mkdir, mkdir-with-children, mkdir-immutable, upload, uri, unlink,
//	                         set_children; rename and relink with from_name=, to_name= and
//	                         to_dir=; check, by verifycaps too; of a directory, what walks its tree:
//	                         start-manifest, start-deep-size, start-deep-stats and
//	                         start-deep-check with ophandle=, stream-manifest, stream-deep-check
//	DELETE /uri/CAP/PATH     unlink
//	       /cap is /uri; /file/CAP/NAME and /named/CAP/NAME download
//	GET    /operations/H     what was started with ophandle=H; POST ?t=cancel ends it
//	GET    /status           what is and was done with the grid through this API; ?t=json;
//	                         /status/up-N, down-N, mapupdate-N, publish-N, retrieve-N
//	GET    /storage          how the storage stands that this node offers; ?t=json
//	GET    /statistics       figures under Tahoe's names; ?t=json, openmetrics
//	GET    /helper_status    that there is no helper; ?t=json
//	GET    /static/FILE      the operator's own pages (web.static)
//	       /private/…        what the node mounts there, with Authorization: tahoe-lafs TOKEN
//
// A PUT that stores a file and says "Accept: application/x-ndjson" (no browser or
// frontend of Tahoe's does) is answered with lines of JSON: see Told.
//
// Status codes, JSON shapes and error texts are those of Tahoe-LAFS 1.20, but what is
// the request's fault is 400 where Tahoe falls over with 500. Errors are text, for
// browsers (Accept: text/html) pages. Unlike there, a request whose Host is not this
// machine's loopback, or whose Origin is another page's, is refused with 403: any web
// page could drive the node otherwise.
//
// A file's name sets its Content-Type alone: Tahoe's Content-Encoding for a ".gz" would
// have browsers unpack what was stored packed.
//
// New gives an http.Handler that is safe for concurrent use; the operations behind
// their handles are its only state. It deliberately lacks HTML beyond plain pages,
// and Tahoe's /report_incident and /private/logs.
package webapi
