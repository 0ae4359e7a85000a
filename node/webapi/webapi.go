package webapi

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"warren/node/caps"
	"warren/node/dirnode"
	"warren/node/immutable"
	"warren/node/mutable"
	"warren/node/storage"
)

// File is an opened file of any kind. What WriteRange writes has been verified.
type File interface {
	Size() int64
	WriteRange(ctx context.Context, w io.Writer, offset, size int64) error
	Close() error
}

var (
	// ErrReadOnly is a Grid's answer when a readcap was to be written through.
	ErrReadOnly = errors.New("that capability is read-only")
	// ErrUnsupported is a Grid's answer to a capability of a kind that it cannot use.
	ErrUnsupported = errors.New("not supported by this version")
)

// ProhibitedError is a Grid's answer for what its operator does not let anybody use.
type ProhibitedError struct{ Reason string }

func (e *ProhibitedError) Error() string { return "Access Prohibited: " + e.Reason }

// Grid is what the web API does with the grid; package node composes it. All
// methods may be called concurrently; a nil error of a writing method means
// stored.
type Grid interface {
	// PutFile stores an immutable file; size is -1 when it is not known. It tells
	// immutable.WithProgress's function how far it is.
	PutFile(ctx context.Context, r io.Reader, size int64) (immutable.Result, error)
	PutMutable(ctx context.Context, kind mutable.Kind, contents []byte) (caps.Cap, error)
	// Overwrite replaces a mutable file's contents; c is its writecap.
	Overwrite(ctx context.Context, c caps.Cap, contents []byte) error
	// Update writes data into a mutable file, from offset on; c is its writecap.
	Update(ctx context.Context, c caps.Cap, offset uint64, data []byte) error
	Open(ctx context.Context, c caps.Cap) (File, error)

	List(ctx context.Context, dir caps.Cap) ([]dirnode.Entry, error)
	// Edit changes a mutable directory; dir is its writecap.
	Edit(ctx context.Context, dir caps.Cap, changes []dirnode.Change) error
	MakeDir(ctx context.Context, kind mutable.Kind, entries []dirnode.Entry) (caps.Cap, error)
	MakeImmutableDir(ctx context.Context, entries []dirnode.Entry) (caps.Cap, error)
}

// Server describes a storage server on the welcome page.
type Server struct {
	ID, Nickname, Version string
	Connected             bool
	Summary               string
	Available             *uint64
	LastReceived          time.Time // zero: never
}

// Welcome is what the welcome page says.
type Welcome struct {
	Nickname, NodeID string
	Introducers      []string // one sentence each
	Servers          []Server
	// Announcements and Subscriptions are counted by service, on an introducer; nil on
	// every other node.
	Announcements, Subscriptions map[string]int
}

// Config is what New needs.
type Config struct {
	Grid    Grid
	Welcome func() Welcome
	// Statistics are the node's figures; nil: there is no such page.
	Statistics func() storage.Statistics
	// Storage is how the storage stands that this node offers; false: it offers none.
	// nil: there is no such page.
	Storage func() (Storage, bool)
	// Incident keeps a report, with what its reporter says of it; nil: there is no such
	// page.
	Incident func(details string) error
	// Static is the directory of the operator's own pages, which /static/ serves (Tahoe's
	// web.static); "": there is none.
	Static string
	// DirFormat is how directories are kept when format= does not say it.
	DirFormat mutable.Format
	// MaxMutable bounds what is put into a mutable file, which is held in memory;
	// 0: mutable.MaxSize.
	MaxMutable int64
	// Background runs operations, which outlive the requests that began them, until the
	// node stops; nil: until they end.
	Background func(run func(ctx context.Context))
	// Token is the node's API token.
	Token func() string
	// Private handles what is below /private/ (the prefix stays); nil: nothing.
	Private http.Handler
}

// maxSmallBody bounds lists of children, which are held in memory. Mutable files are,
// too: their shares are written with one call each, so that nobody sees half of one.
const maxSmallBody = 64 << 20

type server struct {
	Config
	pages      *template.Template
	operations *operations
}

// New returns the web API.
func New(c Config) http.Handler {
	if c.MaxMutable == 0 {
		c.MaxMutable = mutable.MaxSize
	}
	s := &server{c, template.Must(template.New("").Parse(layouts + operationLayout)), newOperations(c.Background)}
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", s.only(s.welcome))
	if c.Statistics != nil {
		mux.HandleFunc("/statistics", s.only(s.statistics))
	}
	mux.HandleFunc("/status", s.only(s.status))
	mux.HandleFunc("/status/", s.only(s.status))
	mux.HandleFunc("/helper_status", s.only(s.helperStatus))
	if c.Storage != nil {
		mux.HandleFunc("/storage", s.only(s.storage))
	}
	if c.Incident != nil {
		mux.HandleFunc("/report_incident", s.incident)
	}
	if c.Static != "" {
		mux.HandleFunc("/static/", s.only(s.static))
	}
	mux.HandleFunc("/", s.only(func(http.ResponseWriter, *http.Request) error {
		return &webError{http.StatusNotFound, "There is no such page here"}
	}))
	// The tree below these holds escaped slashes and empty parts, which a mux
	// would clean away: they are taken apart by hand.
	if c.Private != nil {
		mux.Handle("/private/", private(c.Private, c.Token))
	}
	return guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if wantsTold(r) {
			var t *teller
			t, r = newTeller(w, r)
			defer t.finish()
			w = t
		}
		root, rest, more := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
		var err error
		switch root {
		case "uri", "cap":
			if rest == "" && more && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
				to := url.URL{Path: "/" + root, RawQuery: r.URL.RawQuery}
				http.Redirect(w, r, to.String(), http.StatusFound)
			} else if rest == "" {
				err = s.unlinked(w, r)
			} else {
				err = s.tree(w, r, strings.Split(rest, "/"))
			}
		case "operations":
			err = s.operation(w, r, rest)
		case "file", "named":
			if !more {
				err = &webError{http.StatusNotFound, "/file must be followed by a file-cap and a name"}
			} else {
				err = s.download(w, r, strings.Split(rest, "/"))
			}
		default:
			mux.ServeHTTP(w, r)
		}
		if err != nil {
			s.answer(w, r, err)
		}
	}))
}

// readSmall reads a body that is no file.
func readSmall(r *http.Request) ([]byte, error) { return readUpTo(r.Body, maxSmallBody) }

// readMutable reads what goes into a mutable file.
func (s *server) readMutable(r io.Reader) ([]byte, error) { return readUpTo(r, s.MaxMutable) }

func readUpTo(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, bad("the request's body ended early")
	}
	if int64(len(b)) > limit {
		return nil, &webError{http.StatusRequestEntityTooLarge, fmt.Sprintf("FileTooLargeError: more than %d MiB are not taken here", limit>>20)}
	}
	return b, nil
}

// unlinked handles /uri itself: things that no directory names.
func (s *server) unlinked(w http.ResponseWriter, r *http.Request) error {
	if r.Method == http.MethodPost {
		if err := parseForm(r); err != nil {
			return err
		}
		if r.MultipartForm != nil {
			defer r.MultipartForm.RemoveAll()
		}
	}
	ctx, t := r.Context(), verb(r)
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		c, given := argument(r, "uri")
		if !given {
			return bad("GET /uri requires uri=")
		}
		if p, err := caps.Parse(c); err != nil {
			return bad("Invalid capability")
		} else if _, unknown := p.(caps.Unknown); unknown {
			return bad("Invalid capability")
		}
		q := r.URL.Query()
		q.Del("uri")
		to := "/uri/" + url.PathEscape(c)
		if len(q) > 0 {
			to += "?" + q.Encode()
		}
		http.Redirect(w, r, to, http.StatusFound)
		return nil
	case http.MethodPut:
		switch t {
		case "":
			c, err := s.store(r, "CHK")
			return respondCap(w, c, err, http.StatusOK)
		case "mkdir":
			f, err := format(r)
			if err != nil {
				return err
			}
			if f == "CHK" {
				return bad("format=CHK not accepted for PUT /uri?t=mkdir")
			}
			kind, err := s.kind(r, f)
			if err != nil {
				return err
			}
			c, err := s.Grid.MakeDir(ctx, kind, nil)
			return respondCap(w, c, err, http.StatusOK)
		}
	case http.MethodPost:
		switch t {
		case "", "upload":
			return s.unlinkedForm(w, r)
		case "mkdir":
			if err := noChildren(r); err != nil {
				return err
			}
			if f, err := format(r); err == nil && f == "CHK" {
				return bad("format=CHK not currently accepted for POST /uri?t=mkdir")
			}
			return s.unlinkedDir(w, r, t)
		case "mkdir-with-children", "mkdir-immutable":
			return s.unlinkedDir(w, r, t)
		}
	default:
		return notAllowed(w, r, "GET, HEAD, PUT, POST")
	}
	return bad("/uri accepts only PUT, PUT?t=mkdir, POST?t=upload, and POST?t=mkdir")
}

// unlinkedDir makes a directory that no other names, and answers with its cap or,
// with redirect_to_result=, sends the browser there.
func (s *server) unlinkedDir(w http.ResponseWriter, r *http.Request, t string) error {
	see, err := boolean(arg(r, "redirect_to_result"), false)
	if err != nil {
		return err
	}
	c, err := s.newDir(r, t)
	if err != nil {
		return err
	}
	code := http.StatusOK
	if see {
		code = http.StatusSeeOther
		w.Header().Set("Location", "/uri/"+url.PathEscape(c.Text()))
	}
	return respondCap(w, c, nil, code)
}

// errNoChildren: a list of children is wanted, and there is none.
var errNoChildren = &webError{http.StatusBadRequest, "the list of children is not the JSON that the webapi takes"}

// noChildren refuses a body: whoever sends one meant t=mkdir-with-children.
func noChildren(r *http.Request) error {
	if strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/form-data") {
		return nil
	}
	if n, _ := io.ReadFull(r.Body, make([]byte, 1)); n > 0 || len(r.PostForm) > 0 {
		return bad("t=mkdir does not accept children=, try t=mkdir-with-children instead")
	}
	return nil
}

// store puts the request's body on the grid as format= says.
func (s *server) store(r *http.Request, def string) (caps.Cap, error) {
	f, err := format(r)
	if err != nil {
		return nil, err
	}
	if f == "" {
		f = def
	}
	if f == "CHK" {
		if err := noKey(r); err != nil {
			return nil, err
		}
		res, err := s.Grid.PutFile(r.Context(), r.Body, r.ContentLength)
		if t, ok := r.Context().Value(tellerKey{}).(*teller); ok && err == nil {
			t.stored(res)
		}
		return res.Cap, err
	}
	kind, err := s.kind(r, f)
	if err != nil {
		return nil, err
	}
	b, err := s.readMutable(r.Body)
	if err != nil {
		return nil, err
	}
	return s.Grid.PutMutable(r.Context(), kind, b)
}

// newDir makes the directory that t names, with the children in the body.
func (s *server) newDir(r *http.Request, t string) (caps.Cap, error) {
	f, err := format(r)
	if err != nil {
		return nil, err
	}
	if f == "CHK" && t != "mkdir-immutable" {
		return nil, bad("format=CHK not accepted for %s", t)
	}
	var entries []dirnode.Entry
	if t != "mkdir" {
		if r.MultipartForm != nil {
			return nil, errNoChildren
		}
		b, err := readSmall(r)
		if err != nil {
			return nil, err
		}
		if entries, err = children(b); err != nil {
			return nil, err
		}
	}
	if t == "mkdir-immutable" {
		return s.Grid.MakeImmutableDir(r.Context(), entries)
	}
	kind, err := s.kind(r, f)
	if err != nil {
		return nil, err
	}
	return s.Grid.MakeDir(r.Context(), kind, entries)
}

// respondCap answers with a cap's text, as Tahoe does to everything that made one.
func respondCap(w http.ResponseWriter, c caps.Cap, err error, code int) error {
	if err != nil {
		return err
	}
	plain(w, code, c.Text())
	return nil
}
