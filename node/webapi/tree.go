package webapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"warren/node/caps"
	"warren/node/dirnode"
	"warren/node/mutable"
)

// place is where a path led: a node, and the directory entry that names it.
type place struct {
	cap    caps.Cap // nil: nothing stands there (yet)
	parent caps.Cap // the directory that holds it; nil for the root of the path
	name   string
	entry  dirnode.Entry // the parent's entry, when there is one
}

// parts unescapes the path below /uri/: a cap and names.
func parts(escaped []string) (caps.Cap, []string, error) {
	names := make([]string, 0, len(escaped))
	for _, p := range escaped {
		s, err := url.PathUnescape(p)
		if err != nil {
			return nil, nil, bad("the path is not well escaped")
		}
		names = append(names, s)
	}
	root, err := caps.Parse(names[0])
	if err != nil {
		return nil, nil, bad("that is not a valid file- or directory- cap: %v", err)
	}
	names = names[1:]
	if n := len(names); n > 0 && names[n-1] == "" {
		names = names[:n-1] // a trailing slash
	}
	for _, n := range names {
		if n == "" {
			return nil, nil, bad("The webapi does not allow empty pathname components, i.e. a double slash")
		}
	}
	return root, names, nil
}

// resolve walks a path. With create, missing directories on the way are made, as
// Tahoe does for PUT and POST. The last name may be absent: then cap is nil.
func (s *server) resolve(ctx context.Context, root caps.Cap, names []string, create bool) (place, error) {
	at := place{cap: root}
	for i, name := range names {
		if !caps.IsDir(at.cap) {
			if create {
				return at, &webError{http.StatusConflict, "Cannot create directory " + quote(name) + ", because its parent is a file, not a directory"}
			}
			return at, bad("Files have no children named %s", quote(name))
		}
		next, err := s.child(ctx, at.cap, name)
		if err != nil {
			return at, err
		}
		if next.cap == nil && i < len(names)-1 {
			if !create {
				return at, noChild(name)
			}
			if next, err = s.makeChild(ctx, next); err != nil {
				return at, err
			}
		}
		at = next
	}
	return at, nil
}

// child looks a name up in a directory.
func (s *server) child(ctx context.Context, dir caps.Cap, name string) (place, error) {
	at := place{parent: dir, name: dirnode.Normalize(name)}
	entries, err := s.Grid.List(ctx, dir)
	if err != nil {
		return at, err
	}
	for _, e := range entries {
		if e.Name == at.name {
			at.cap, at.entry = e.Cap(), e
			if at.cap == nil {
				at.cap = caps.Unknown{} // it is there, and gives nothing
			}
			break
		}
	}
	return at, nil
}

// makeChild makes a directory at a place where nothing was. Of requests that do so
// at once, one makes it and the others use it.
func (s *server) makeChild(ctx context.Context, at place) (place, error) {
	if err := at.mayLink(); err != nil {
		return at, err
	}
	c, err := s.Grid.MakeDir(ctx, mutable.Kind{Format: s.DirFormat}, nil)
	if err != nil {
		return at, err
	}
	err = s.link(ctx, at.parent, at.name, c, dirnode.Never)
	if errors.Is(err, dirnode.ErrExists) {
		return s.child(ctx, at.parent, at.name)
	}
	at.cap = c
	return at, err
}

// mayLink refuses early, before anything is stored, what link would refuse.
func (at place) mayLink() error {
	switch {
	case at.parent == nil:
		return bad("this needs a path below a directory")
	case caps.IsReadOnly(at.parent):
		return ErrReadOnly
	}
	return nil
}

// link sets one entry. The cap goes where its kind puts it: a writecap brings
// its readcap along.
func (s *server) link(ctx context.Context, dir caps.Cap, name string, c caps.Cap, over dirnode.Overwrite) error {
	return s.Grid.Edit(ctx, dir, []dirnode.Change{{Entry: dirnode.NewEntry(name, c, nil), Overwrite: over}})
}

// tree handles /uri/CAP and all below it.
func (s *server) tree(w http.ResponseWriter, r *http.Request, escaped []string) error {
	root, names, err := parts(escaped)
	if err != nil {
		return err
	}
	if r.Method == http.MethodPost {
		if err := parseForm(r); err != nil {
			return err
		}
		if r.MultipartForm != nil {
			defer r.MultipartForm.RemoveAll()
		}
	}
	t := verb(r)
	// What stores something makes the directories on its way. Tahoe makes them for
	// every PUT and POST that it knows nothing else of.
	making := r.Method == http.MethodPut && (t == "" || t == "uri" || t == "mkdir") ||
		r.Method == http.MethodPost && slices.Contains([]string{"mkdir", "mkdir-with-children", "mkdir-immutable", "upload"}, t)
	at, err := s.resolve(r.Context(), root, names, making)
	if err != nil {
		return err
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return s.get(w, r, at, t)
	case http.MethodPut:
		return s.put(w, r, at)
	case http.MethodPost:
		return s.post(w, r, at)
	case http.MethodDelete:
		if at.parent == nil {
			return bad("DELETE needs a path below a directory")
		}
		if at.cap == nil {
			return noChild(at.name)
		}
		if err := s.Grid.Edit(r.Context(), at.parent, []dirnode.Change{{Entry: dirnode.Entry{Name: at.name}, Delete: true, MustExist: true}}); err != nil {
			return err
		}
		return respondCap(w, at.cap, nil, http.StatusOK)
	}
	return notAllowed(w, r, "GET, HEAD, PUT, POST, DELETE")
}

// put stores or links at a path: 201 for a new file, 200 for everything else.
func (s *server) put(w http.ResponseWriter, r *http.Request, at place) error {
	ctx, t := r.Context(), verb(r)
	over, err := overwrite(r)
	if err != nil {
		return err
	}
	if r.Header.Get("Content-Range") != "" {
		return &webError{http.StatusNotImplemented, "Content-Range in PUT not yet supported"}
	}
	code := http.StatusOK
	if at.cap == nil {
		code = http.StatusCreated
	}
	switch {
	case t == "mkdir":
		c, err := s.mkdirAt(r, at, t)
		return respondCap(w, c, err, http.StatusOK)
	case at.cap != nil && over == dirnode.Never:
		return errExists
	case t == "" && at.cap != nil && caps.IsDir(at.cap):
		return bad("PUT to a directory")
	case t == "" && at.cap != nil && caps.IsMutable(at.cap):
		if caps.IsReadOnly(at.cap) {
			return bad("PUT to a mutable file: replace or update requested with read-only cap")
		}
		from, given, err := offset(r)
		if err != nil {
			return err
		}
		b, err := s.readMutable(r.Body)
		if err != nil {
			return err
		}
		if given {
			return respondCap(w, at.cap, s.Grid.Update(ctx, at.cap, from, b), http.StatusOK)
		}
		return respondCap(w, at.cap, s.Grid.Overwrite(ctx, at.cap, b), http.StatusOK)
	case t != "" && t != "uri":
		return bad("PUT to a file: bad t=%s", t)
	}
	if err := at.mayLink(); err != nil {
		return err
	}
	if t == "" {
		if arg(r, "offset") != "" {
			return bad("PUT to a file: append operation invoked on an immutable cap")
		}
		c, err := s.store(r, "CHK")
		if err != nil {
			return err
		}
		return respondCap(w, c, s.link(ctx, at.parent, at.name, c, over), code)
	}
	b, err := readSmall(r)
	if err != nil {
		return err
	}
	c, err := caps.Parse(strings.TrimSpace(string(b)))
	if err != nil {
		return bad("the body is not a capability: %v", err)
	}
	// 200 for something new too: so says Tahoe here.
	return respondCap(w, c, s.link(ctx, at.parent, at.name, c, over), http.StatusOK)
}

// mkdirAt makes the directory that the path names; one that is there is the answer.
func (s *server) mkdirAt(r *http.Request, at place, t string) (caps.Cap, error) {
	if at.cap != nil {
		if !caps.IsDir(at.cap) {
			if r.Method == http.MethodPut {
				return nil, bad("PUT to a file: bad t=%s", t)
			}
			return nil, bad("POST to file: bad t=%s", t)
		}
		return at.cap, nil
	}
	if err := at.mayLink(); err != nil {
		return nil, err
	}
	c, err := s.newDir(r, t)
	if err != nil {
		return nil, err
	}
	return c, s.link(r.Context(), at.parent, at.name, c, dirnode.Never)
}

// post handles the verbs of POST.
func (s *server) post(w http.ResponseWriter, r *http.Request, at place) error {
	ctx, t := r.Context(), verb(r)
	name, _, err := text(r, "name")
	if err != nil {
		return err
	}
	switch {
	case t == "mkdir", t == "mkdir-with-children", t == "mkdir-immutable", t == "upload":
		// These may name what is not there yet.
	case at.cap == nil:
		return noChild(at.name)
	case t == "check":
		return s.check(w, r, at.cap)
	case !caps.IsDir(at.cap):
		return bad("POST to file: bad t=%s", t)
	case isDeep(t):
		return s.deep(w, r, at.cap, t)
	}
	switch t {
	case "mkdir", "mkdir-with-children", "mkdir-immutable":
		if name == "" {
			c, err := s.mkdirAt(r, at, t)
			if err != nil {
				return err
			}
			return s.done(w, r, c.Text())
		}
		if at.cap == nil || !caps.IsDir(at.cap) {
			return bad("POST t=%s with name= needs a directory", t)
		}
		if caps.IsReadOnly(at.cap) {
			return ErrReadOnly
		}
		over := dirnode.Never
		if t == "mkdir" {
			if yes, err := boolean(arg(r, "replace"), true); err != nil {
				return err
			} else if yes {
				over = dirnode.Always
			}
		}
		c, err := s.newDir(r, t)
		if err != nil {
			return err
		}
		if err := s.link(ctx, at.cap, name, c, over); err != nil {
			return err
		}
		return s.done(w, r, c.Text())
	case "rename", "relink":
		return s.relink(w, r, at, t)
	case "set_children", "set-children":
		return s.setChildren(w, r, at.cap)
	case "delete", "unlink":
		err := s.Grid.Edit(ctx, at.cap, []dirnode.Change{{Entry: dirnode.Entry{Name: dirnode.Normalize(name)}, Delete: true, MustExist: true}})
		if errors.Is(err, dirnode.ErrNoEntry) {
			return noChild(name)
		}
		if err != nil {
			return err
		}
		return s.done(w, r, "thing unlinked")
	case "uri":
		c, err := caps.Parse(strings.TrimSpace(arg(r, "uri")))
		if err != nil {
			return bad("set-uri requires a uri")
		}
		if name == "" {
			return bad("set-uri requires a name")
		}
		over, err := overwrite(r)
		if err != nil {
			return err
		}
		if err := s.link(ctx, at.cap, name, c, over); err != nil {
			return err
		}
		return s.done(w, r, c.Text())
	case "upload":
		return s.uploadForm(w, r, at)
	}
	return bad("POST to a directory with bad t=%s", t)
}

// done answers a form's POST: with the text, or by going to when_done=.
func (s *server) done(w http.ResponseWriter, r *http.Request, text string) error {
	if to := arg(r, "when_done"); to != "" {
		return redirect(w, to, text)
	}
	plain(w, http.StatusOK, text)
	return nil
}

// redirect sends the browser to a page of this node, which when_done= names.
func redirect(w http.ResponseWriter, to, text string) error {
	u, err := url.Parse(to)
	if err != nil || u.IsAbs() || u.Host != "" || strings.HasPrefix(to, "//") || strings.Contains(to, `\`) {
		return bad("when_done= must be a path of this node")
	}
	// As it is: a browser knows better than http.Redirect what "." is relative to.
	w.Header().Set("Location", u.String())
	plain(w, http.StatusFound, text)
	return nil
}

// parseForm reads a form's fields. Bodies that are no form stay unread: they are
// lists of children.
func parseForm(r *http.Request) error {
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/form-data") {
		if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") &&
			!takesChildren(r.URL.Query().Get("t")) {
			r.Body = http.MaxBytesReader(nil, r.Body, 1<<20)
			if err := r.ParseForm(); err != nil {
				return bad("the form cannot be read")
			}
		}
		return nil
	}
	if err := r.ParseMultipartForm(1 << 20); err != nil {
		return bad("the form cannot be read")
	}
	return nil
}

// takesChildren says that a request's body is a list of children, whatever its
// Content-Type: curl -d says that everything is a form.
func takesChildren(t string) bool {
	switch strings.TrimSpace(t) {
	case "mkdir-with-children", "mkdir-immutable", "set_children", "set-children":
		return true
	}
	return false
}

// uploadForm stores a form's field "file" at a path, or in a directory under
// name= or the file's own name.
func (s *server) uploadForm(w http.ResponseWriter, r *http.Request, at place) error {
	f, header, err := formFile(r)
	if err != nil {
		return err
	}
	defer f.Close()
	over, err := overwrite(r)
	if err != nil {
		return err
	}
	if at.cap != nil && caps.IsDir(at.cap) {
		name, _, err := text(r, "name")
		if err == nil && name == "" {
			name, err = fromCharset(r, header)
		}
		if err != nil {
			return err
		}
		if name = strings.TrimSpace(name); name == "" {
			return bad("upload requires a name")
		}
		if strings.Contains(name, "/") {
			return bad("name= may not contain a slash")
		}
		if at, err = s.child(r.Context(), at.cap, name); err != nil {
			return err
		}
	}
	ctx := r.Context()
	if at.cap != nil && (over == dirnode.Never || caps.IsDir(at.cap)) {
		return errExists // Tahoe stores it in that directory, under the directory's own name
	}
	kind, err := format(r)
	if err != nil {
		return err
	}
	if at.cap != nil && caps.IsMutable(at.cap) && !caps.IsDir(at.cap) {
		b, err := s.readMutable(f)
		if err != nil {
			return err
		}
		if caps.IsReadOnly(at.cap) {
			return ErrReadOnly
		}
		if err := s.Grid.Overwrite(ctx, at.cap, b); err != nil {
			return err
		}
		return s.done(w, r, at.cap.Text())
	}
	if err := at.mayLink(); err != nil {
		return err
	}
	c, err := s.storeForm(r, f, kind)
	if err != nil {
		return err
	}
	if err := s.link(ctx, at.parent, at.name, c, over); err != nil {
		return err
	}
	return s.done(w, r, c.Text())
}

// unlinkedForm stores a form's field "file" without a name.
func (s *server) unlinkedForm(w http.ResponseWriter, r *http.Request) error {
	f, _, err := formFile(r)
	if err != nil {
		return err
	}
	defer f.Close()
	kind, err := format(r)
	if err != nil {
		return err
	}
	c, err := s.storeForm(r, f, kind)
	if err != nil {
		return err
	}
	if kind != "" && kind != "CHK" {
		plain(w, http.StatusOK, c.Text()) // Tahoe looks at no when_done= here
		return nil
	}
	if to := arg(r, "when_done"); to != "" {
		return redirect(w, strings.ReplaceAll(to, "%(uri)s", url.PathEscape(c.Text())), c.Text())
	}
	return s.uploaded(w, c)
}

// storeForm puts a form's file on the grid as format= says.
func (s *server) storeForm(r *http.Request, f io.Reader, format string) (caps.Cap, error) {
	if format == "" || format == "CHK" {
		if err := noKey(r); err != nil {
			return nil, err
		}
		res, err := s.Grid.PutFile(r.Context(), f, -1)
		return res.Cap, err
	}
	kind, err := s.kind(r, format)
	if err != nil {
		return nil, err
	}
	b, err := s.readMutable(f)
	if err != nil {
		return nil, err
	}
	return s.Grid.PutMutable(r.Context(), kind, b)
}

func formFile(r *http.Request) (io.ReadCloser, string, error) {
	if r.MultipartForm == nil {
		return nil, "", bad("upload needs a form with a field \"file\"")
	}
	f, header, err := r.FormFile("file")
	if errors.Is(err, http.ErrMissingFile) {
		return nil, "", bad("upload needs a form with a field \"file\"")
	}
	if err != nil {
		return nil, "", err
	}
	return f, header.Filename, nil
}
