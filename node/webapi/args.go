package webapi

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"

	"warren/node/dirnode"
	"warren/node/mutable"
)

// webError is a refusal with its status, as Tahoe's WebError: the text is shown.
type webError struct {
	code int
	text string
}

func (e *webError) Error() string { return e.text }

func bad(format string, args ...any) error {
	return &webError{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

// noChild is Tahoe's answer to a name that is not there.
func noChild(name string) error {
	return &webError{http.StatusNotFound, "No such child: " + name}
}

// notAllowed refuses a method; allow lists those that there are.
func notAllowed(w http.ResponseWriter, r *http.Request, allow string) error {
	w.Header().Set("Allow", allow)
	return &webError{http.StatusMethodNotAllowed, r.Method + " is not known here, but " + allow}
}

// arg is a query argument, or, in a form's POST, the field of that name.
func arg(r *http.Request, name string) string {
	s, _ := argument(r, name)
	return s
}

// argument is arg, and whether it was given.
func argument(r *http.Request, name string) (value string, given bool) {
	if v, ok := r.URL.Query()[name]; ok && len(v) > 0 {
		return v[0], true
	}
	if r.MultipartForm != nil {
		if v := r.MultipartForm.Value[name]; len(v) > 0 {
			return v[0], true
		}
	}
	if v := r.PostForm[name]; len(v) > 0 {
		return v[0], true
	}
	return "", false
}

// text is arg, for what names entries: in the character set that _charset= names, else
// in UTF-8.
func text(r *http.Request, name string) (value string, given bool, err error) {
	value, given = argument(r, name)
	value, err = fromCharset(r, value)
	return value, given, err
}

// fromCharset decodes what stands in a form in the character set that _charset= names.
func fromCharset(r *http.Request, value string) (string, error) {
	name, given := argument(r, "_charset")
	if !given || strings.EqualFold(name, "utf-8") || strings.EqualFold(name, "utf8") {
		return value, nil
	}
	enc, err := ianaindex.IANA.Encoding(name)
	if err != nil || enc == nil {
		if enc, err = htmlindex.Get(name); err != nil {
			return "", bad("_charset=%q is no character set that is known here", name)
		}
	}
	decoded, err := enc.NewDecoder().String(value)
	if err != nil {
		return "", bad("a name is not in the character set that _charset= names")
	}
	return decoded, nil
}

// verb is t=, what to do.
func verb(r *http.Request) string { return strings.TrimSpace(arg(r, "t")) }

// boolean reads the spellings that Tahoe takes.
func boolean(s string, def bool) (bool, error) {
	switch strings.ToLower(s) {
	case "":
		return def, nil
	case "true", "t", "1", "on":
		return true, nil
	case "false", "f", "0", "off":
		return false, nil
	}
	return false, bad("invalid boolean argument: %s", quote(s))
}

// overwrite reads replace=.
func overwrite(r *http.Request) (dirnode.Overwrite, error) {
	s := arg(r, "replace")
	if strings.EqualFold(s, "only-files") {
		return dirnode.OnlyFiles, nil
	}
	yes, err := boolean(s, true)
	if err != nil {
		return dirnode.Never, bad("invalid replace= argument: %s", quote(s))
	}
	if yes {
		return dirnode.Always, nil
	}
	return dirnode.Never, nil
}

// format reads format= and mutable=; "" when neither says anything.
func format(r *http.Request) (string, error) {
	s := arg(r, "format")
	if s == "" {
		mutable, err := boolean(arg(r, "mutable"), false)
		if mutable {
			return "SDMF", err
		}
		return "", err
	}
	switch f := strings.ToUpper(s); f {
	case "CHK", "SDMF", "MDMF":
		return f, nil
	}
	return "", bad("Unknown format: %s, I know CHK, SDMF, MDMF", s)
}

// kind is how a mutable file or directory is made: in the format given, and, where
// private-key= says so, with that RSA key, which alone determines its capability.
func (s *server) kind(r *http.Request, format string) (mutable.Kind, error) {
	kind := mutable.Kind{Format: s.DirFormat}
	switch format {
	case "SDMF":
		kind.Format = mutable.SDMF
	case "MDMF":
		kind.Format = mutable.MDMF
	}
	text := arg(r, "private-key")
	if text == "" {
		return kind, nil
	}
	der, err := base64.URLEncoding.DecodeString(text)
	if err == nil {
		kind.Key, err = mutable.ImportKey(der)
	}
	if err != nil {
		return kind, bad("private-key= must be an RSA key of 2048 bits, in DER and then in the base64 for URLs")
	}
	return kind, nil
}

// noKey refuses private-key= for an immutable file: whoever gave it meant another
// kind of file. (Tahoe ignores it.)
func noKey(r *http.Request) error {
	if arg(r, "private-key") != "" {
		return bad("private-key= is for mutable files: say format=SDMF or format=MDMF")
	}
	return nil
}

// offset reads offset=; false when it is not there.
func offset(r *http.Request) (at uint64, given bool, err error) {
	s := arg(r, "offset")
	if s == "" {
		return 0, false, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, false, bad("offset= must be a number")
	}
	if n < 0 {
		return 0, false, bad("PUT to a mutable file: Invalid offset")
	}
	return uint64(n), true, nil
}

// byteRange reads a Range header as Tahoe does: one that makes no sense is
// ignored, of several the first counts.
func byteRange(header string, size int64) (first, last int64, ok bool, err error) {
	set, found := strings.CutPrefix(header, "bytes=")
	if !found {
		return 0, 0, false, nil
	}
	for i, one := range strings.Split(set, ",") {
		a, b, found := strings.Cut(strings.TrimSpace(one), "-")
		if !found {
			return 0, 0, false, nil
		}
		f, l, good := bounds(strings.TrimSpace(a), strings.TrimSpace(b), size)
		if !good {
			return 0, 0, false, nil
		}
		if i == 0 {
			first, last = f, l
		}
	}
	if first >= size {
		return 0, 0, false, &webError{http.StatusRequestedRangeNotSatisfiable, "First beyond end of file"}
	}
	return max(0, first), min(size-1, last), true, nil
}

func bounds(a, b string, size int64) (first, last int64, ok bool) {
	var err error
	if a == "" {
		n, err := strconv.ParseInt(b, 10, 64)
		if err != nil || n < 0 || size == 0 {
			return 0, 0, false
		}
		first, last = size-n, size-1
		return first, last, first <= last
	}
	if first, err = strconv.ParseInt(a, 10, 64); err != nil || first < 0 {
		return 0, 0, false
	}
	if b == "" {
		// Beyond the end this makes no sense to Tahoe: the whole file is the answer.
		return first, size - 1, first <= size-1
	}
	if last, err = strconv.ParseInt(b, 10, 64); err != nil {
		return 0, 0, false
	}
	return first, last, first <= last
}
