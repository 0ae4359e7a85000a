package interop

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"warren/node/caps"
)

// How much of two answers must agree besides the status.
const (
	statusOnly = iota
	sameText   // the body, to the letter
	sameJSON   // the body as JSON, and, unless it is an error, its Content-Type
	sameBegin  // what Tahoe's frontends show or look at: our body is how Tahoe's begins
	samePage   // the Content-Type: a page for people, or figures that differ
)

// request is one request to both nodes. {NAME} in path and body is the cap of that
// name in the node's own fixture.
type request struct {
	method, path, body string
	compare            int
	header             string // "Name: value"
	// otherwise is the status that our node gives where it differs on purpose; why
	// says what the purpose is.
	otherwise int
	why       string
}

const (
	futureRO = "ro.x-future:readonly"
	futureRW = "x-future:write"
	noChild  = "/uri/{DIR}/nothing"
	// Caps of things that no server holds.
	lostCHK = "URI:CHK:aaaaaaaaaaaaaaaaaaaaaaaaaa:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:2:3:1000"
	lostSSK = "URI:SSK:aaaaaaaaaaaaaaaaaaaaaaaaaa:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	lostDir = "URI:DIR2:aaaaaaaaaaaaaaaaaaaaaaaaaa:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
)

// requests are in order: later ones see what earlier ones did.
var requests = []request{
	// Files.
	{method: "GET", path: "/uri/{CHK}", compare: sameText},
	{method: "HEAD", path: "/uri/{CHK}"},
	{method: "GET", path: "/uri/{CHK}?t=json", compare: sameJSON},
	{method: "GET", path: "/uri/{LIT}?t=json", compare: sameJSON},
	{method: "GET", path: "/uri/{SDMF}?t=json", compare: sameJSON},
	{method: "GET", path: "/uri/{SDMFRO}?t=json", compare: sameJSON},
	{method: "GET", path: "/uri/{CHK}?t=uri", compare: sameText},
	{method: "GET", path: "/uri/{SDMF}?t=readonly-uri", compare: sameText},
	{method: "GET", path: "/uri/{CHK}?t=readonly-uri", compare: sameText},
	{method: "GET", path: "/uri/{CHK}?t=nonsense", compare: sameText},
	{method: "HEAD", path: "/uri/{CHK}?t=json", otherwise: 200, why: "HEAD answers as GET does"},
	{method: "GET", path: "/uri/{CHK}/child", compare: statusOnly},
	{method: "PUT", path: "/uri/{CHK}/child", body: "x", compare: statusOnly},
	{method: "POST", path: "/uri/{CHK}?t=nonsense", compare: sameText},
	{method: "POST", path: "/uri/{CHK}?t=mkdir", compare: sameText},
	{method: "GET", path: "/uri/{LIT}", compare: sameText, header: "Range: bytes=2-4"},
	{method: "GET", path: "/uri/{SDMF}", compare: sameText, header: "Range: bytes=2-4"},
	{method: "GET", path: "/file/{CHK}/name.txt", compare: sameText},
	{method: "GET", path: "/named/{LIT}/name.html", compare: sameText},
	{method: "GET", path: "/named/{LIT}/name.bin?filename=other.png", compare: sameText},
	{method: "GET", path: "/uri/{CHK}?filename=name.jpg&save=true", compare: sameText},
	{method: "GET", path: "/uri/{CHK}?save=nonsense"},
	{method: "PUT", path: "/file/{CHK}/name.txt", body: "x"},
	{method: "GET", path: "/file/{DIR}/name.txt"},
	{method: "GET", path: "/file/"},
	// Directories.
	{method: "GET", path: "/uri/{DIR}?t=json", compare: sameJSON},
	{method: "GET", path: "/uri/{RODIR}?t=json", compare: sameJSON},
	{method: "GET", path: "/uri/{IMMDIR}?t=json", compare: sameJSON},
	{method: "GET", path: "/uri/{DIR}", compare: statusOnly},
	{method: "GET", path: "/uri/{DIR}/?t=json", compare: sameJSON},
	{method: "GET", path: "/uri/{DIR}?t=uri", compare: sameText},
	{method: "GET", path: "/uri/{DIR}?t=readonly-uri", compare: sameText},
	{method: "GET", path: "/uri/{RODIR}?t=readonly-uri", compare: sameText},
	{method: "GET", path: "/uri/{DIR}?t=nonsense", compare: sameText},
	{method: "GET", path: "/uri/{DIR}/chk", compare: sameText},
	{method: "GET", path: "/uri/{DIR}/chk?t=json", compare: sameJSON},
	{method: "GET", path: "/uri/{DIR}/lit?t=json", compare: sameJSON},
	{method: "GET", path: "/uri/{DIR}/sdmf?t=json", compare: sameJSON},
	{method: "GET", path: "/uri/{DIR}/sub?t=json", compare: sameJSON},
	{method: "GET", path: "/uri/{DIR}/future?t=json", compare: sameJSON},
	{method: "GET", path: "/uri/{DIR}/future"},
	{method: "GET", path: "/uri/{DIR}/future?t=uri"},
	{method: "GET", path: "/uri/" + futureRO + "?t=json", compare: sameJSON},
	{method: "GET", path: "/uri/" + futureRW + "?t=json", compare: sameJSON},
	{method: "GET", path: "/uri/imm." + futureRW + "?t=json", compare: sameJSON},
	{method: "GET", path: noChild},
	{method: "GET", path: noChild + "?t=json"},
	{method: "HEAD", path: noChild},
	{method: "GET", path: "/uri/{DIR}/nothing/deeper"},
	{method: "GET", path: "/uri/{DIR}/chk/deeper"},
	{method: "GET", path: "/uri/{DIR}//chk"},
	{method: "GET", path: "/uri/{DIR}/sub//"},
	// What is not there, and what is no cap.
	{method: "GET", path: "/uri/" + lostCHK, compare: sameBegin},
	{method: "GET", path: "/uri/" + lostSSK, compare: sameBegin},
	{method: "GET", path: "/uri/" + lostDir + "?t=json", compare: sameJSON},
	{method: "GET", path: "/uri/" + lostDir + "/child", compare: statusOnly},
	{method: "PUT", path: "/uri/" + lostSSK, body: "x"},
	{method: "GET", path: "/uri/URI:CHK:nonsense"},
	{method: "GET", path: "/uri/nonsense"},
	{method: "GET", path: "/uri"},
	{method: "GET", path: "/uri?uri=nonsense"},
	{method: "GET", path: "/uri?uri={CHK}"},
	// Storing without a name.
	{method: "PUT", path: "/uri", body: strings.Repeat("some bytes ", 50), compare: sameText},
	{method: "PUT", path: "/uri", body: "short", compare: sameText},
	{method: "PUT", path: "/uri?format=SDMF", body: "short", compare: sameText},
	{method: "PUT", path: "/uri?mutable=true", body: "short", compare: sameText},
	{method: "PUT", path: "/uri?format=nonsense", body: "short", compare: sameText},
	{method: "PUT", path: "/uri?mutable=nonsense", body: "short"},
	{method: "PUT", path: "/uri?t=nonsense", body: "short", compare: sameText},
	{method: "PUT", path: "/uri?t=mkdir", compare: sameText},
	{method: "PUT", path: "/uri?t=mkdir&format=CHK", compare: sameText},
	{method: "POST", path: "/uri?t=mkdir", compare: sameText},
	{method: "POST", path: "/uri?t=mkdir", body: `{"a": 1}`, compare: sameText},
	{method: "POST", path: "/uri?t=nonsense", compare: sameText},
	{method: "POST", path: "/uri?t=mkdir-immutable", body: `{"a": ["filenode", {"ro_uri": "{CHK}"}]}`, compare: sameText},
	{method: "POST", path: "/uri?t=mkdir-immutable", body: `{"a": ["filenode", {"ro_uri": "{LIT}"}]}`, compare: sameText},
	{method: "POST", path: "/uri?t=mkdir-immutable", compare: sameText},
	{method: "POST", path: "/uri?t=mkdir-immutable", body: `{"a": ["filenode", {"ro_uri": "{SDMFRO}"}]}`, compare: sameBegin},
	{method: "POST", path: "/uri?t=mkdir-immutable", body: `{"a": ["dirnode", {"rw_uri": "{DIR}"}]}`, compare: sameBegin},
	{method: "POST", path: "/uri?t=mkdir-immutable", body: `{"a": ["filenode", {"ro_uri": "", "metadata": {}}]}`, compare: sameText},
	{method: "GET", path: "/uri/{EMPTYDIR}?t=json", compare: sameJSON},
	{method: "GET", path: "/uri/{EMPTYDIR}/content?t=json", compare: sameJSON},
	{method: "GET", path: "/uri/{EMPTYDIR}/content"},
	{method: "POST", path: "/uri?t=mkdir-with-children", body: `{"a": ["filenode", {"rw_uri": "{SDMF}"}]}`, compare: sameText},
	{method: "POST", path: "/uri?t=mkdir-with-children", body: `{"a": ["unknown", {"rw_uri": "` + futureRW + `"}]}`, compare: sameBegin},
	{method: "POST", path: "/uri?t=mkdir-with-children", body: `{"a": ["unknown", {"rw_uri": "` + futureRW + `", "ro_uri": "` + futureRO + `"}]}`, compare: sameText},
	{method: "POST", path: "/uri?t=mkdir-with-children", body: "no json", otherwise: 400, why: "Tahoe's 500 is the request's fault"},
	// Storing below a directory.
	{method: "PUT", path: "/uri/{DIR}/new", body: "0123456789", compare: sameText},
	{method: "PUT", path: "/uri/{DIR}/new", body: "another", compare: sameText},
	{method: "PUT", path: "/uri/{DIR}/new?replace=false", body: "third", compare: sameText},
	{method: "PUT", path: "/uri/{DIR}/new?replace=only-files", body: "fourth", compare: sameText},
	{method: "PUT", path: "/uri/{DIR}/new?replace=nonsense", body: "fifth"},
	{method: "PUT", path: "/uri/{DIR}/new?t=nonsense", body: "fifth", compare: sameText},
	{method: "PUT", path: "/uri/{DIR}/sub", body: "fifth", compare: sameText},
	{method: "PUT", path: "/uri/{DIR}/a/b/c", body: "deep", compare: sameText},
	{method: "PUT", path: "/uri/{DIR}/chk/b", body: "deep"},
	{method: "PUT", path: "/uri/{DIR}/chk/b/c", body: "deep"},
	{method: "PUT", path: "/uri/{RODIR}/new2", body: "x", otherwise: 400, why: "Tahoe's 500 is the request's fault"},
	{method: "PUT", path: "/uri/{IMMDIR}/new2", body: "x", otherwise: 400, why: "Tahoe's 500 is the request's fault"},
	{method: "PUT", path: "/uri/{DIR}/sdmf", body: "changed", compare: sameText},
	{method: "PUT", path: "/uri/{DIR}/sdmf?replace=false", body: "changed", compare: sameText},
	{method: "PUT", path: "/uri/{DIR}/mutable?format=SDMF", body: "m", compare: sameText},
	{method: "PUT", path: "/uri/{SDMFRO}", body: "x", compare: sameText},
	{method: "PUT", path: "/uri/{CHK}", body: "x", otherwise: 400, why: "Tahoe's 500 is the request's fault"},
	{method: "PUT", path: "/uri/{DIR}/linked?t=uri", body: "{CHK}", compare: sameText},
	{method: "PUT", path: "/uri/{DIR}/linked?t=uri", body: "{SUB}", compare: sameText},
	{method: "PUT", path: "/uri/{DIR}/linked?t=uri&replace=only-files", body: "{CHK}", compare: sameText},
	{method: "PUT", path: "/uri/{DIR}/linked?t=uri&replace=false", body: "{CHK}", compare: sameText},
	{method: "PUT", path: "/uri/{DIR}/unknown?t=uri", body: futureRW, compare: sameBegin},
	{method: "PUT", path: "/uri/{DIR}/unknown?t=uri", body: futureRO, compare: sameText},
	{method: "PUT", path: "/uri/{DIR}/made?t=mkdir", compare: sameText},
	{method: "PUT", path: "/uri/{DIR}/made?t=mkdir", compare: sameText},
	{method: "PUT", path: "/uri/{DIR}/p/q?t=mkdir", compare: sameText},
	{method: "PUT", path: "/uri/{DIR}/chk?t=mkdir"},
	{method: "POST", path: "/uri/{DIR}/posted?t=mkdir", compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=mkdir&name=named", compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=mkdir&name=named&replace=false", compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=mkdir", compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=mkdir-with-children&name=kids", body: `{"a": ["filenode", {"ro_uri": "{CHK}", "metadata": {"x": 1}}]}`, compare: sameText},
	{method: "POST", path: "/uri/{DIR}/kids2?t=mkdir-immutable", body: `{"a": ["filenode", {"ro_uri": "{CHK}"}]}`, compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=uri&name=set&uri={CHK}", compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=uri&name=set"},
	{method: "POST", path: "/uri/{DIR}?t=uri&uri={CHK}"},
	{method: "POST", path: "/uri/{DIR}?t=uri&name=set&uri={LIT}&replace=false", compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=nonsense", compare: sameText},
	{method: "POST", path: noChild + "?t=uri&name=x&uri={LIT}"},
	{method: "POST", path: noChild + "?t=unlink&name=x"},
	{method: "POST", path: noChild + "?t=nonsense"},
	{method: "POST", path: "/uri/{CHK}?t=uri&name=x&uri={LIT}", compare: sameText},
	{method: "POST", path: "/uri/{CHK}?t=unlink&name=x", compare: sameText},
	{method: "POST", path: "/uri/{RODIR}?t=mkdir&name=x", otherwise: 400, why: "Tahoe's 500 is the request's fault"},
	// Unlinking.
	{method: "DELETE", path: "/uri/{DIR}/set", compare: sameText},
	{method: "DELETE", path: "/uri/{DIR}/set"},
	{method: "DELETE", path: "/uri/{DIR}/sub", compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=unlink&name=kids2", compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=delete&name=kids", compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=unlink&name=kids"},
	{method: "DELETE", path: "/uri/{RODIR}/chk", otherwise: 400, why: "Tahoe's 500 is the request's fault"},
	// What all of this left.
	{method: "GET", path: "/uri/{DIR}?t=json", compare: sameJSON},
	{method: "GET", path: "/uri/{DIR}/a/b/c", compare: sameText},
	{method: "GET", path: "/uri/{DIR}/p?t=json", compare: sameJSON},
	{method: "GET", path: "/private/nonsense"},
	{method: "GET", path: "/nonsense"},
}

// formBody is a form with a file, as browsers send it, that needs no random boundary.
const formType = "Content-Type: multipart/form-data; boundary=xxxx"

func formBody(file string, fields ...string) string {
	var b strings.Builder
	if file != "" {
		fmt.Fprintf(&b, "--xxxx\r\nContent-Disposition: form-data; name=\"file\"; filename=\"form.txt\"\r\n\r\n%s\r\n", file)
	}
	for i := 0; i < len(fields); i += 2 {
		fmt.Fprintf(&b, "--xxxx\r\nContent-Disposition: form-data; name=\"%s\"\r\n\r\n%s\r\n", fields[i], fields[i+1])
	}
	return b.String() + "--xxxx--\r\n"
}

const (
	urlencoded  = "Content-Type: application/x-www-form-urlencoded"
	faultOfOurs = "Tahoe's 500 is the request's fault"
	noMethod    = "Tahoe says 501 of a method that the resource lacks"
	browser     = "Accept: text/html,application/xhtml+xml,*/*;q=0.8"
)

// edits are the other verbs, on the fixture that requests left.
var edits = []request{
	// Moving within a directory.
	{method: "POST", path: "/uri/{DIR}?t=rename&from_name=lit&to_name=lit2", compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=rename&from_name=lit&to_name=lit3", compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=rename&to_name=lit3", compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=rename&from_name=lit2", compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=rename&from_name=lit2&to_name=x&to_dir={SUB}", compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=rename&from_name=lit2&to_name=x/y", compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=rename&from_name=a/b&to_name=x", compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=rename&from_name=lit2&to_name=chk&replace=false", compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=rename&from_name=lit2&to_name=made&replace=only-files", compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=rename&from_name=lit2&to_name=x&replace=nonsense", compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=rename&from_name=lit2&to_name=file.txt&replace=only-files", compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=rename&from_name=none&to_name=none", compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=rename&from_name=future&to_name=%20future%20%C3%BC%20", compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=rename&from_name=made&to_name=made2&when_done=/uri/there", compare: sameText},
	{method: "POST", path: "/uri/{DIR}", header: formType, body: formBody("", "t", "rename", "from_name", "made2", "to_name", "made3", "when_done", "."), compare: statusOnly},
	{method: "POST", path: "/uri/{DIR}", header: urlencoded, body: "t=rename&from_name=made3&to_name=made+4", compare: sameText},
	{method: "POST", path: "/uri/{RODIR}?t=rename&from_name=chk&to_name=x", otherwise: 400, why: faultOfOurs},
	{method: "POST", path: "/uri/{IMMDIR}?t=rename&from_name=chk&to_name=x", otherwise: 400, why: faultOfOurs},
	{method: "POST", path: "/uri/{CHK}?t=rename&from_name=chk&to_name=x", compare: sameText},
	{method: "POST", path: noChild + "?t=rename&from_name=chk&to_name=x"},
	// And between two.
	{method: "POST", path: "/uri/{DIR}?t=relink&from_name=file.txt&to_dir={SUB}", compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=relink&from_name=file.txt&to_dir={SUB}", compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=relink&from_name=chk&to_dir={SUB}&to_name=file.txt&replace=false", compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=relink&from_name=chk&to_dir={SUB}/none", compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=relink&from_name=chk&to_dir={CHK}", compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=relink&from_name=chk&to_dir={DIR}/chk", compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=relink&from_name=chk&to_dir=nonsense", compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=relink&to_dir={SUB}", compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=relink&from_name=chk&to_dir={RODIR}", otherwise: 400, why: faultOfOurs},
	{method: "POST", path: "/uri/{DIR}?t=relink&from_name=readonly&to_dir={DIR}/a/b&to_name=moved", compare: sameText},
	{method: "POST", path: "/uri/{DIR}/a/b?t=relink&from_name=moved&to_dir={DIR}&to_name=back", compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=relink&from_name=back&to_dir={DIR}&to_name=again", compare: sameText},
	{method: "GET", path: "/uri/{SUB}?t=json", compare: sameJSON},
	{method: "GET", path: "/uri/{DIR}?t=json", compare: sameJSON},
	// Many children at once.
	{method: "POST", path: "/uri/{DIR}?t=uri&name=na%EFve&uri={CHK}&_charset=iso-8859-1", compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=rename&from_name=na%EFve&to_name=%E9t%E9&_charset=latin1", compare: sameText},
	{method: "GET", path: "/uri/{DIR}/%C3%A9t%C3%A9", compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=unlink&name=%E9t%E9&_charset=latin1", compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=unlink&name=x&_charset=nonsense", otherwise: 400, why: faultOfOurs},
	{method: "POST", path: "/uri/{DIR}?t=set_children", body: `{"set1": ["filenode", {"ro_uri": "{CHK}", "metadata": {"k": 1.0}}], "set2": ["dirnode", {"rw_uri": "{SUB}"}]}`, compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=set-children", header: urlencoded, body: `{"set1": ["filenode", {"ro_uri": "{LIT}"}]}`, compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=set_children&replace=false", body: `{"set0": ["filenode", {"ro_uri": "{CHK}"}], "set1": ["filenode", {"ro_uri": "{CHK}"}]}`, compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=set_children&replace=only-files", body: `{"set2": ["filenode", {"ro_uri": "{CHK}"}]}`, compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=set_children&replace=nonsense", body: `{}`, compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=set_children", body: `{}`, compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=set_children", body: `{"x": ["unknown", {"rw_uri": "` + futureRW + `"}]}`, compare: sameBegin},
	{method: "POST", path: "/uri/{DIR}?t=set_children", body: `{"fut": ["unknown", {"rw_uri": "` + futureRW + `", "ro_uri": "` + futureRO + `"}]}`, compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=set_children", body: `no json`, otherwise: 400, why: faultOfOurs},
	{method: "POST", path: "/uri/{DIR}?t=set_children", otherwise: 400, why: faultOfOurs},
	{method: "POST", path: "/uri/{DIR}?t=set_children", body: `{"x": 5}`, otherwise: 400, why: faultOfOurs},
	{method: "POST", path: "/uri/{RODIR}?t=set_children", body: `{"x": ["filenode", {"ro_uri": "{CHK}"}]}`, otherwise: 400, why: faultOfOurs},
	{method: "POST", path: noChild + "?t=set_children", body: `{}`},
	{method: "GET", path: "/uri/{DIR}/set1?t=json", compare: sameJSON},
	{method: "GET", path: "/uri/{DIR}/set0"},
	// Directories below paths, in every format.
	{method: "POST", path: "/uri/{DIR}/d1/d2?t=mkdir-with-children", body: `{"x": ["filenode", {"ro_uri": "{CHK}", "metadata": {"k": "v"}}]}`, compare: sameText},
	{method: "POST", path: "/uri/{DIR}/d1/d2?t=mkdir-with-children", body: `{"y": ["filenode", {"ro_uri": "{CHK}"}]}`, compare: sameText},
	{method: "GET", path: "/uri/{DIR}/d1/d2?t=json", compare: sameJSON},
	{method: "POST", path: "/uri/{DIR}/d1/imm?t=mkdir-immutable", body: `{"x": ["filenode", {"ro_uri": "{LIT}"}]}`, compare: sameText},
	{method: "POST", path: "/uri/{DIR}/d1/imm2?t=mkdir-immutable", body: `{"x": ["filenode", {"ro_uri": "{SDMFRO}"}]}`},
	{method: "POST", path: "/uri/{DIR}/d1/m?t=mkdir&format=MDMF", compare: sameText},
	{method: "PUT", path: "/uri/{DIR}/d1/s?t=mkdir&format=sdmf", compare: sameText},
	{method: "POST", path: "/uri/{DIR}/d1?t=mkdir&name=m2&format=MDMF", compare: sameText},
	{method: "POST", path: "/uri/{DIR}/d1?t=mkdir&name=m3&format=nonsense", compare: sameText},
	{method: "POST", path: "/uri/{DIR}/d1?t=mkdir&name=m4&when_done=/uri/there", compare: sameText},
	{method: "POST", path: "/uri/{DIR}/d1?t=mkdir-with-children&name=d2", body: `{}`, compare: sameText},
	{method: "POST", path: "/uri/{DIR}/d1?t=mkdir-with-children&name=d3", body: `{"x": ["filenode", {"ro_uri": "{CHK}"}]}`, compare: sameText},
	{method: "POST", path: "/uri/{DIR}/d1?t=mkdir-immutable&name=d2", body: `{}`, compare: sameText},
	{method: "GET", path: "/uri/{DIR}/d1?t=json", compare: sameJSON},
	{method: "POST", path: "/uri/{DIR}?t=mkdir-p&path=a/b", compare: sameText},
	{method: "PUT", path: "/uri/{DIR}?t=mkdir", compare: sameText},
	{method: "PUT", path: "/uri/{DIR}", body: "x", compare: sameText},
	{method: "PUT", path: "/uri/{DIR}?t=uri", body: "{CHK}", otherwise: 400, why: faultOfOurs},
	{method: "POST", path: "/uri?t=mkdir&redirect_to_result=true", compare: statusOnly},
	{method: "POST", path: "/uri?t=mkdir-with-children&redirect_to_result=true", body: `{}`, compare: statusOnly},
	{method: "POST", path: "/uri?t=mkdir-immutable&redirect_to_result=true", body: `{}`, compare: statusOnly},
	{method: "POST", path: "/uri?t=mkdir&redirect_to_result=nonsense"},
	{method: "POST", path: "/uri?t=mkdir&format=MDMF", compare: sameText},
	{method: "POST", path: "/uri?t=mkdir&format=CHK", compare: sameText},
	{method: "POST", path: "/uri?t=mkdir", header: urlencoded, body: "format=MDMF", compare: sameText},
	{method: "POST", path: "/uri", header: formType, body: formBody("", "t", "mkdir", "format", "MDMF"), compare: sameText},
	{method: "PUT", path: "/uri?t=mkdir&format=MDMF", compare: sameText},
	// Forms that store files.
	{method: "POST", path: "/uri?t=upload", header: formType, body: formBody("a file of a form"), compare: samePage},
	{method: "POST", path: "/uri?t=upload&format=SDMF", header: formType, body: formBody("a file of a form"), compare: sameText},
	{method: "POST", path: "/uri?t=upload&mutable=true&when_done=/x", header: formType, body: formBody("a file of a form"), compare: sameText},
	{method: "POST", path: "/uri", header: formType, body: formBody("a file of a form", "t", "upload", "format", "MDMF"), compare: sameText},
	{method: "POST", path: "/uri?t=upload&format=nonsense", header: formType, body: formBody("a file of a form"), compare: sameText},
	{method: "POST", path: "/uri?t=upload", header: formType, body: formBody("", "name", "x"), otherwise: 400, why: faultOfOurs},
	{method: "POST", path: "/uri?t=upload", otherwise: 400, why: faultOfOurs},
	{method: "POST", path: "/uri/{DIR}?t=upload", header: formType, body: formBody("a file of a form"), compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=upload&name=f2", header: formType, body: formBody("a second file"), compare: sameText},
	{method: "POST", path: "/uri/{DIR}", header: formType, body: formBody("a third file", "t", "upload", "name", " f3 "), compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=upload&name=f2&replace=false", header: formType, body: formBody("a fourth file"), compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=upload&name=f4&mutable=true", header: formType, body: formBody("mutable"), compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=upload&name=f4", header: formType, body: formBody("overwritten"), compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=upload&name=f5&format=MDMF", header: formType, body: formBody("mutable"), compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=upload&name=f/6", header: formType, body: formBody("x"), compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=upload&name=f7&when_done=/uri/there", header: formType, body: formBody("x"), compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=upload&name=d1", header: formType, body: formBody("x"), otherwise: 409, why: "Tahoe stores it as d1/d1"},
	{method: "POST", path: "/uri/{SUB}/f8?t=upload", header: formType, body: formBody("at a path"), otherwise: 200, why: "the document says that it works"},
	{method: "POST", path: "/uri/{DIR}/f2?t=upload", header: formType, body: formBody("at a path"), compare: sameText},
	{method: "POST", path: "/uri/{DIR}/f2?t=nonsense", header: formType, body: formBody("at a path, again"), compare: sameText},
	{method: "POST", path: "/uri/{SDMF}?t=upload", header: formType, body: formBody("a mutable file's form"), compare: sameText},
	{method: "GET", path: "/uri/{SDMF}", compare: sameText},
	{method: "POST", path: "/uri/{CHK}?t=upload", header: formType, body: formBody("x"), otherwise: 400, why: faultOfOurs},
	{method: "POST", path: "/uri/{RODIR}?t=upload&name=x", header: formType, body: formBody("x"), otherwise: 400, why: faultOfOurs},
	{method: "POST", path: "/uri/{SDMFRO}?t=upload", header: formType, body: formBody("x"), otherwise: 400, why: faultOfOurs},
	{method: "POST", path: "/uri/{DIR}", header: formType, body: formBody("", "t", "unlink", "name", "f7", "when_done", "/uri/there"), compare: sameText},
	{method: "POST", path: "/uri/{DIR}", header: urlencoded, body: "t=delete&name=f5", compare: sameText},
	{method: "POST", path: "/uri/{DIR}?t=unlink", compare: statusOnly},
	{method: "POST", path: "/uri/{DIR}", header: formType, body: formBody("", "t", "uri", "name", "by form", "uri", "{LIT}"), compare: sameText},
	// Changes in place.
	{method: "PUT", path: "/uri/{SDMF}?offset=2", body: "XX", compare: sameText},
	{method: "GET", path: "/uri/{SDMF}", compare: sameText},
	{method: "PUT", path: "/uri/{DIR}/sdmf?offset=21", body: " and more", compare: sameText},
	{method: "GET", path: "/uri/{DIR}/sdmf", compare: sameText},
	{method: "PUT", path: "/uri/{DIR}/f4?offset=-1", body: "x", compare: sameText},
	{method: "PUT", path: "/uri/{DIR}/f4?offset=nonsense", body: "x", otherwise: 400, why: faultOfOurs},
	{method: "PUT", path: "/uri/{DIR}/f2?offset=1", body: "x", compare: sameText},
	{method: "PUT", path: "/uri/{SDMFRO}?offset=1", body: "x", compare: sameText},
	{method: "PUT", path: "/uri/{DIR}/ranged", body: "x", header: "Content-Range: bytes 0-0/1", compare: sameText},
	{method: "PUT", path: "/uri/{DIR}/mdmf?format=MDMF", body: strings.Repeat("0123456789", 30), compare: sameText},
	{method: "PUT", path: "/uri/{DIR}/mdmf?offset=295", body: "changed at the end", compare: sameText},
	{method: "GET", path: "/uri/{DIR}/mdmf", compare: sameText, header: "Range: bytes=280-"},
	{method: "GET", path: "/uri/{DIR}/mdmf?t=json", compare: sameJSON},
	// Questions.
	{method: "GET", path: "/uri/{DIR}?t=%20json%20", compare: sameJSON},
	{method: "GET", path: "/uri/{DIR}?t=json&t=uri", compare: sameJSON},
	{method: "GET", path: "/uri/{DIR}/chk?t=uri", compare: sameText},
	{method: "GET", path: "/uri/{DIR}/sdmf?t=readonly-uri", compare: sameText},
	{method: "GET", path: "/uri/{IMMDIR}?t=uri", compare: sameText},
	{method: "GET", path: "/uri/{CHK}", header: "If-None-Match: *"},
	{method: "GET", path: "/uri/{CHK}?t=json", header: "If-None-Match: *"},
	{method: "GET", path: "/uri/{IMMDIR}?t=json", header: "If-None-Match: *"},
	{method: "GET", path: "/uri/{IMMDIR}", header: "If-None-Match: *"},
	{method: "GET", path: "/uri/{SDMF}", header: "If-None-Match: *"},
	{method: "GET", path: "/uri/{LIT}", header: "If-None-Match: *"},
	{method: "GET", path: "/uri/{CHK}", compare: sameText, header: "Range: bytes=5000-6000"},
	{method: "GET", path: "/uri/{CHK}", compare: sameText, header: "Range: bytes=-7"},
	{method: "GET", path: "/uri/{CHK}", compare: sameText, header: "Range: bytes=1-2,5-6"},
	{method: "HEAD", path: "/uri/{CHK}", header: "Range: bytes=1-2"},
	{method: "HEAD", path: "/uri/{DIR}?t=json"},
	{method: "GET", path: "/file/{CHK}/@@named=/name.png", compare: sameText},
	{method: "GET", path: "/file/{CHK}/name.png?t=json", compare: sameJSON},
	{method: "GET", path: "/file/{CHK}", compare: sameText},
	{method: "GET", path: "/file/nonsense/name"},
	{method: "GET", path: "/file/{CHK}/name.png?save=true", compare: sameText},
	{method: "DELETE", path: "/file/{CHK}/name.png"},
	// Pages.
	{method: "GET", path: "/uri/{DIR}", compare: samePage},
	{method: "GET", path: "/uri/{IMMDIR}/", compare: samePage},
	{method: "GET", path: "/uri/{DIR}?t=info", compare: samePage},
	{method: "GET", path: "/uri/{CHK}?t=info", compare: samePage},
	{method: "GET", path: "/uri/{LIT}?t=info", compare: samePage},
	{method: "GET", path: "/uri/{SDMF}?t=info", compare: samePage},
	{method: "GET", path: "/uri/{DIR}/fut?t=info", compare: samePage},
	{method: "GET", path: "/uri/" + lostSSK + "?t=info", compare: samePage},
	{method: "GET", path: "/uri/{DIR}?t=rename-form&name=x", compare: samePage},
	{method: "GET", path: "/uri/{CHK}?t=rename-form", compare: sameText},
	{method: "GET", path: "/", compare: samePage},
	{method: "GET", path: "/?t=nonsense"},
	{method: "GET", path: "/status", compare: samePage},
	{method: "GET", path: "/status/", compare: samePage},
	{method: "GET", path: "/status/nonsense"},
	{method: "GET", path: "/status/up-999999"},
	{method: "GET", path: "/status?t=json", compare: samePage},
	{method: "GET", path: "/status?t=nonsense"},
	{method: "POST", path: "/report_incident", compare: sameText},
	{method: "POST", path: "/report_incident?details=it%20broke", compare: sameText},
	{method: "GET", path: "/report_incident", compare: sameText},
	{method: "GET", path: "/statistics", compare: samePage},
	{method: "GET", path: "/statistics?t=json", compare: samePage},
	{method: "GET", path: "/statistics?t=openmetrics", compare: samePage},
	{method: "GET", path: "/statistics?t=nonsense"},
	{method: "GET", path: "/storage", compare: samePage},
	{method: "GET", path: "/helper_status", compare: samePage},
	{method: "GET", path: "/helper_status?t=json", compare: sameJSON},
	{method: "GET", path: "/uri/"},
	{method: "GET", path: "/uri/?uri={CHK}"},
	{method: "GET", path: noChild, header: browser, compare: samePage},
	{method: "GET", path: "/nonsense", header: browser, compare: samePage},
	{method: "GET", path: "/uri/{CHK}/x", header: browser, compare: samePage},
	// What there is not.
	{method: "DELETE", path: "/uri", otherwise: 405, why: noMethod},
	{method: "PATCH", path: "/uri/{DIR}", otherwise: 405, why: noMethod},
	{method: "OPTIONS", path: "/uri/{CHK}", otherwise: 405, why: noMethod},
	{method: "DELETE", path: "/uri/{CHK}", otherwise: 400, why: faultOfOurs},
	{method: "DELETE", path: "/uri/{DIR}", otherwise: 400, why: faultOfOurs},
	{method: "GET", path: "/uri/{DIR}?t=json"},
	{method: "GET", path: "/uri/{DIR}?t=json", compare: sameJSON},
}

// fixture stores the same things through a client and returns their caps by name.
func fixture(t testing.TB, c *WebClient) map[string]string {
	t.Helper()
	caps := map[string]string{
		"CHK":  string(c.Must(t, "PUT", "/uri", bytes.NewReader([]byte(strings.Repeat("0123456789", 100))))),
		"LIT":  string(c.Must(t, "PUT", "/uri", strings.NewReader("a literal"))),
		"SDMF": string(c.Must(t, "PUT", "/uri?format=SDMF", strings.NewReader("a mutable file"))),
		"SUB":  string(c.Must(t, "POST", "/uri?t=mkdir", nil)),
	}
	caps["SDMFRO"] = string(c.Must(t, "GET", "/uri/"+url.PathEscape(caps["SDMF"])+"?t=readonly-uri", nil))
	children := map[string]any{}
	for name, key := range map[string]string{"lit": "LIT", "chk": "CHK", "file.txt": "CHK"} {
		children[name] = []any{"filenode", map[string]any{"ro_uri": caps[key], "metadata": map[string]any{"key": []any{1, "\u00fc"}}}}
	}
	caps["IMMDIR"] = string(c.Must(t, "POST", "/uri?t=mkdir-immutable", bytes.NewReader(mustJSON(t, children))))
	// As in a snapshot that tells of a delete.
	caps["EMPTYDIR"] = string(c.Must(t, "POST", "/uri?t=mkdir-immutable", strings.NewReader(`{"content": ["filenode", {"ro_uri": "", "metadata": {}}]}`)))
	children["sdmf"] = []any{"filenode", map[string]any{"rw_uri": caps["SDMF"]}}
	children["sub"] = []any{"dirnode", map[string]any{"rw_uri": caps["SUB"]}}
	children["readonly"] = []any{"filenode", map[string]any{"ro_uri": caps["SDMFRO"]}}
	children["future"] = []any{"unknown", map[string]any{"ro_uri": futureRO, "rw_uri": futureRW}}
	caps["DIR"] = string(c.Must(t, "POST", "/uri?t=mkdir-with-children", bytes.NewReader(mustJSON(t, children))))
	caps["RODIR"] = string(c.Must(t, "GET", "/uri/"+url.PathEscape(caps["DIR"])+"?t=readonly-uri", nil))
	return caps
}

var (
	capInText    = regexp.MustCompile(`\b(?:URI|SSK):[-A-Za-z0-9:]+`)
	timeInText   = regexp.MustCompile(`("link[a-z]+time": )[0-9.e+]+`)
	placeholders = regexp.MustCompile(`\{[A-Z]+\}`)
)

// answer is what a node says, without what differs between two nodes that say the same.
type answer struct {
	status     int
	kind, body string
	headers    string // those that frontends act upon
	location   string
}

func ask(t testing.TB, c *WebClient, caps map[string]string, r request) answer {
	t.Helper()
	fill := func(s string, escape func(string) string) string {
		return placeholders.ReplaceAllStringFunc(s, func(p string) string {
			if c := caps[strings.Trim(p, "{}")]; c != "" {
				return escape(c)
			}
			t.Fatalf("no cap %s", p)
			return ""
		})
	}
	once := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	var resp *http.Response
	var b []byte
	for try := 0; try == 0 || c.lostServers(t, try-1, resp.StatusCode, b); try++ {
		req, err := http.NewRequest(r.method, c.URL+fill(r.path, url.QueryEscape), strings.NewReader(fill(r.body, func(s string) string { return s })))
		if err != nil {
			t.Fatal(err)
		}
		if name, value, ok := strings.Cut(r.header, ": "); ok {
			req.Header.Set(name, value)
		}
		if resp, err = once.Do(req); err != nil {
			t.Fatal(err)
		}
		b, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	text := capInText.ReplaceAllStringFunc(string(b), func(s string) string {
		for name, c := range caps {
			if s == c {
				return "{" + name + "}"
			}
		}
		if strings.HasPrefix(s, "URI:CHK:") || strings.HasPrefix(s, "URI:LIT:") || strings.HasPrefix(s, "URI:DIR2-CHK:") || strings.HasPrefix(s, "URI:DIR2-LIT:") || s == lostCHK {
			return s // the same on both nodes
		}
		return regexp.MustCompile(`^URI:[-A-Z0-9a-z]+`).FindString(s)
	})
	text = timeInText.ReplaceAllString(text, "${1}0")
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	var headers []string
	for _, name := range []string{"ETag", "Content-Range", "Accept-Ranges", "Content-Disposition", "Content-Length"} {
		value := resp.Header.Get(name)
		// Tahoe's ETag lacks the quotes that HTTP demands.
		headers = append(headers, name+": "+strings.ReplaceAll(value, `"`, ""))
	}
	return answer{resp.StatusCode, kind, text, strings.Join(headers, ", "), resp.Header.Get("Location")}
}

// sameAnswers compares the answers of our node and Tahoe's to every request.
func sameAnswers(t *testing.T, ours, theirs *WebClient) {
	all := slices.Concat(requests, edits)
	ourAnswers, theirAnswers := make([]answer, len(all)), make([]answer, len(all))
	var ourCaps, theirCaps map[string]string
	each := func(c *WebClient, caps *map[string]string, answers []answer) func() {
		return func() {
			*caps = fixture(t, c)
			for i, r := range all {
				answers[i] = ask(t, c, *caps, r)
			}
		}
	}
	Together(t, each(ours, &ourCaps, ourAnswers), each(theirs, &theirCaps, theirAnswers))
	for _, name := range []string{"CHK", "LIT", "IMMDIR", "EMPTYDIR"} {
		if ourCaps[name] != theirCaps[name] {
			t.Errorf("%s: the caps differ", name)
		}
	}
	for i, r := range all {
		a, b := ourAnswers[i], theirAnswers[i]
		name := fmt.Sprintf("%d %s %s", i, r.method, r.path)
		if r.otherwise != 0 {
			if a.status != r.otherwise || b.status == r.otherwise {
				t.Errorf("%s: ours %d, Tahoe's %d; want %d here alone: %s", name, a.status, b.status, r.otherwise, r.why)
			}
			continue
		}
		if a.status != b.status {
			t.Errorf("%s: status: ours %d, Tahoe's %d\n%.300s\n%.300s", name, a.status, b.status, a.body, b.body)
			continue
		}
		if r.compare == sameText && r.method == "GET" && a.status < 300 && (a.kind != b.kind || a.headers != b.headers) {
			t.Errorf("%s: headers:\nours    %s, %s\nTahoe's %s, %s", name, a.kind, a.headers, b.kind, b.headers)
		}
		switch r.compare {
		case samePage:
			if a.kind != b.kind {
				t.Errorf("%s: ours is %s, Tahoe's %s", name, a.kind, b.kind)
			}
		case sameText:
			if a.status == http.StatusFound {
				if a.location != b.location {
					t.Errorf("%s: to %q, Tahoe's to %q", name, a.location, b.location)
				}
				continue // Tahoe's body is a page with the address
			}
			if a.body != b.body {
				t.Errorf("%s: (%d)\nours    %.400q\nTahoe's %.400q", name, a.status, a.body, b.body)
			}
		case sameBegin:
			if first, _, _ := strings.Cut(a.body, "\n"); first == "" || !strings.HasPrefix(b.body, first) {
				t.Errorf("%s: (%d)\nours    %.400q\nTahoe's %.600q", name, a.status, a.body, b.body)
			}
		case sameJSON:
			var x, y any
			if err := json.Unmarshal([]byte(a.body), &x); err != nil {
				t.Errorf("%s: (%d) ours is not JSON: %v: %.300s", name, a.status, err, a.body)
			} else if err := json.Unmarshal([]byte(b.body), &y); err != nil {
				t.Errorf("%s: (%d) Tahoe's is not JSON: %v: %.300s", name, b.status, err, b.body)
			} else if !reflect.DeepEqual(x, y) || a.status < 300 && a.kind != b.kind {
				t.Errorf("%s: (%d)\nours    %s %s\nTahoe's %s %s", name, a.status, a.kind, compact(x), b.kind, compact(y))
			}
		}
	}
	sameFigures(t, ours, theirs)
	sameProhibitions(t, ours, theirs)
	if n := len(all); n < 240 {
		t.Errorf("only %d requests", n)
	}
	if !slices.ContainsFunc(requests, func(r request) bool { return r.otherwise != 0 }) {
		t.Error("nothing differs any more: drop the column")
	}
}

// sameProhibitions compares what the two nodes do of what their access.blacklist lists.
// (Tahoe never answers t=json of a directory that holds a listed mutable one.)
func sameProhibitions(t *testing.T, ours, theirs *WebClient) {
	var told [2][]string
	for i, c := range []*WebClient{ours, theirs} {
		file := string(c.Must(t, "PUT", "/uri", strings.NewReader(strings.Repeat("prohibited ", 20))))
		sub := string(c.Must(t, "POST", "/uri?t=mkdir", nil))
		at := func(parts ...string) string {
			for i := range parts {
				parts[i] = url.PathEscape(parts[i])
			}
			return "/uri/" + strings.Join(parts, "/")
		}
		c.Must(t, "PUT", at(sub, "child"), strings.NewReader("child"))
		dir := string(c.Must(t, "POST", "/uri?t=mkdir-with-children", bytes.NewReader(mustJSON(t, map[string]any{
			"file": []any{"filenode", map[string]any{"ro_uri": file}}, "sub": []any{"dirnode", map[string]any{"rw_uri": sub}},
		}))))
		var list strings.Builder
		for n, text := range []string{file, sub} {
			parsed, err := caps.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			si, _ := caps.Index(parsed)
			fmt.Fprintf(&list, "# a comment\n%s reason no. %d\n", si.Text(), n)
		}
		if err := os.WriteFile(filepath.Join(c.Dir, "access.blacklist"), []byte(list.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, r := range [][2]string{
			{"GET", at(file)}, {"HEAD", at(file)}, {"GET", "/file/" + url.PathEscape(file) + "/x"}, {"GET", at(dir, "file")}, {"GET", at(dir, "sub")}, {"GET", at(sub)},
			{"GET", at(sub, "child")}, {"GET", at(dir, "sub", "child")}, {"GET", at(dir)}, {"DELETE", at(dir, "file")}, {"GET", at(dir, "file")},
		} {
			body, code, err := c.Do(r[0], r[1], nil)
			if err != nil {
				t.Fatal(err)
			}
			reason, _, _ := strings.Cut(regexp.MustCompile(`Access Prohibited: [a-z. 0-9]*`).FindString(string(body)), "\n")
			told[i] = append(told[i], fmt.Sprintf("%s %d %s", r[0], code, reason))
		}
	}
	if !slices.Equal(told[0], told[1]) || !strings.Contains(told[0][0], "403 Access Prohibited: reason no. 0") {
		t.Errorf("\nours    %q\nTahoe's %q", told[0], told[1])
	}
}

// sameFigures compares what the two nodes tell of what they did: the keys that Tahoe
// has for an operation of a type, and the names of its counters.
func sameFigures(t *testing.T, ours, theirs *WebClient) {
	keys := func(c *WebClient) map[string][]string {
		var status struct{ Active, Recent []map[string]any }
		if err := json.Unmarshal(c.Must(t, "GET", "/status?t=json", nil), &status); err != nil {
			t.Fatal(err)
		}
		out := map[string][]string{}
		for _, op := range append(status.Active, status.Recent...) {
			out[op["type"].(string)] = slices.Sorted(maps.Keys(op))
		}
		var figures struct{ Counters map[string]any }
		if err := json.Unmarshal(c.Must(t, "GET", "/statistics?t=json", nil), &figures); err != nil {
			t.Fatal(err)
		}
		out["counters"] = slices.Sorted(maps.Keys(figures.Counters))
		return out
	}
	a, b := keys(ours), keys(theirs)
	if !reflect.DeepEqual(a, b) || len(a) != 6 {
		t.Errorf("ours    %v\nTahoe's %v", a, b)
	}
}

func compact(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}
