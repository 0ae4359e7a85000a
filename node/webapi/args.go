package webapi

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"warren/node/dirnode"
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

// arg is a query argument, or, in a form's POST, the field of that name.
func arg(r *http.Request, name string) string {
	if v, ok := r.URL.Query()[name]; ok && len(v) > 0 {
		return v[0]
	}
	if r.MultipartForm != nil {
		if v := r.MultipartForm.Value[name]; len(v) > 0 {
			return v[0]
		}
	}
	return r.PostForm.Get(name)
}

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
	return false, bad("invalid boolean argument: %q", s)
}

// overwrite reads replace=.
func overwrite(r *http.Request) (dirnode.Overwrite, error) {
	s := arg(r, "replace")
	if strings.EqualFold(s, "only-files") {
		return dirnode.OnlyFiles, nil
	}
	yes, err := boolean(s, true)
	if err != nil {
		return dirnode.Never, bad("invalid replace= argument: %q", s)
	}
	if yes {
		return dirnode.Always, nil
	}
	return dirnode.Never, nil
}

// format reads format= and mutable=; "" when neither says anything. Everything
// that makes files calls it, so it also refuses what would make another file than
// was asked for.
func format(r *http.Request) (string, error) {
	if arg(r, "private-key") != "" {
		return "", &webError{http.StatusNotImplemented, "private-key= is not supported yet"}
	}
	s := arg(r, "format")
	if s == "" {
		mutable, err := boolean(arg(r, "mutable"), false)
		if mutable {
			return "SDMF", err
		}
		return "", err
	}
	switch f := strings.ToUpper(s); f {
	case "CHK", "SDMF":
		return f, nil
	case "MDMF":
		return "", &webError{http.StatusNotImplemented, "format=MDMF is not supported yet: use SDMF"}
	}
	return "", bad("Unknown format: %s, I know CHK, SDMF, MDMF", s)
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
