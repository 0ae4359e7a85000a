package webapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"warren/node/caps"
	"warren/node/dirnode"
)

// Walker is a Grid that can walk a tree of directories, as dirnode.Dirs does.
type Walker interface {
	Walk(ctx context.Context, root caps.Cap, visit func(dirnode.Step) error) error
}

// deepVerb is a t= of POST that walks a tree.
type deepVerb struct {
	stream, check bool
	form          findings // of start-*: how what was found is told
}

func deepVerbs(t string) (deepVerb, bool) {
	switch t {
	case "stream-manifest":
		return deepVerb{stream: true}, true
	case "stream-deep-check":
		return deepVerb{stream: true, check: true}, true
	case "start-manifest":
		return deepVerb{form: manifest{}}, true
	case "start-deep-size":
		return deepVerb{form: deepSize{}}, true
	case "start-deep-stats":
		return deepVerb{form: deepStats{}}, true
	case "start-deep-check":
		return deepVerb{check: true, form: deepCheck{}}, true
	}
	return deepVerb{}, false
}

// isDeep says that t walks a tree.
func isDeep(t string) bool {
	_, ok := deepVerbs(t)
	return ok
}

// deep handles the verbs that walk a tree of directories from dir on.
func (s *server) deep(w http.ResponseWriter, r *http.Request, dir caps.Cap, t string) error {
	verb, _ := deepVerbs(t)
	walker, walks := s.Grid.(Walker)
	checker, checks := s.Grid.(Checker)
	if !walks || !checks {
		return ErrUnsupported
	}
	if dirnode.ClassOf(dir) != dirnode.DirectoryClass {
		return fmt.Errorf("walking from a capability of kind %s: %w", dir.Kind(), ErrUnsupported)
	}
	var o CheckOptions
	var repair bool
	if verb.check {
		var err error
		if o, repair, err = checkArgs(r); err != nil {
			return err
		}
	}
	run := func(ctx context.Context, take func(found) error) error {
		if verb.check {
			return walkChecking(ctx, walker, checker, dir, o, repair, take)
		}
		return walk(ctx, walker, dir, take)
	}
	if verb.stream {
		return s.stream(w, r, repair, verb.check, run)
	}
	if c, ok := verb.form.(deepCheck); ok {
		c.repair = repair
		verb.form = c
	}
	return s.start(w, r, dir, verb.form, run)
}

// found is a step of a walk and what was found of it.
type found struct {
	dirnode.Step
	// Of a walk that checks one of these, or neither, for literals and unknown kinds.
	health   *Health
	repaired *Repaired
}

// walk is a walk that does nothing but look. An unreadable directory ends it, after
// take was told of it.
func walk(ctx context.Context, grid Walker, root caps.Cap, take func(found) error) error {
	return grid.Walk(ctx, root, func(step dirnode.Step) error {
		if err := take(found{Step: step}); err != nil {
			return err
		}
		return step.Err
	})
}

// checking is how many things are checked at the same time. Repairs are made one
// after the other: each holds segments, or a whole mutable file, in memory.
const checking = 4

// walkChecking is walk with a check, or check and repair, of each thing; take is told
// in the walk's order. What cannot be repaired is told, and does not end the walk
// (which it does in Tahoe).
func walkChecking(ctx context.Context, walker Walker, grid Checker, root caps.Cap, o CheckOptions, repair bool, take func(found) error) error {
	type answer struct {
		found
		err error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	queue := make(chan chan answer, checking-1) // and one is being waited for
	repairing := make(chan struct{}, 1)
	taken := make(chan error, 1)
	go func() {
		var failed error
		for c := range queue {
			a := <-c
			if failed == nil {
				failed = a.err
			}
			if failed == nil {
				failed = take(a.found)
			}
			if failed != nil {
				cancel()
			}
		}
		taken <- failed
	}()
	err := walk(ctx, walker, root, func(f found) error {
		c := make(chan answer, 1)
		select {
		case queue <- c:
		case <-ctx.Done():
			return ctx.Err()
		}
		go func() {
			var err error
			if repair {
				f.repaired, err = checkAndRepair(ctx, grid, f, o, repairing)
			} else if checkable(f) {
				f.health, err = grid.Check(ctx, f.Entry.Cap(), o)
			}
			c <- answer{f, err}
		}()
		return nil
	})
	close(queue)
	if failed := <-taken; failed != nil {
		return failed
	}
	return err
}

// checkable says that there is something to check.
func checkable(f found) bool { return f.Class != dirnode.UnknownClass }

// checkAndRepair checks, and repairs what is sick when its turn comes. It tells of a
// repair that could not even begin as of one that failed.
func checkAndRepair(ctx context.Context, grid Checker, f found, o CheckOptions, turn chan struct{}) (*Repaired, error) {
	if !checkable(f) {
		return nil, nil
	}
	h, err := grid.Check(ctx, f.Entry.Cap(), o)
	switch {
	case err != nil || h == nil:
		return nil, err
	case h.Healthy && len(h.Corrupt) == 0:
		return &Repaired{Before: h, After: h}, nil
	}
	select {
	case turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-turn }()
	r, err := grid.CheckAndRepair(ctx, f.Entry.Cap(), o)
	if err != nil && ctx.Err() == nil {
		return &Repaired{Before: h, After: h, Attempted: true, Failure: err}, nil
	}
	return r, err
}

// line is one thing found, as the streams tell it.
type line struct {
	Path     []string       `json:"path"`
	Cap      *string        `json:"cap"`
	Type     string         `json:"type"`
	Verify   string         `json:"verifycap"`
	Repair   string         `json:"repaircap"`
	Index    string         `json:"storage-index"`
	Check    map[string]any `json:"check-results,omitempty"`
	Repaired map[string]any `json:"check-and-repair-results,omitempty"`
}

func (f *found) line() line {
	c := f.Entry.Cap()
	l := line{Path: f.Path, Type: "unknown", Cap: textOf(c), Index: indexOf(c)}
	switch f.Class {
	case dirnode.FileClass:
		l.Type = "file"
	case dirnode.DirectoryClass:
		l.Type = "directory"
	}
	if c == nil {
		return l
	}
	if v := caps.Verifier(c); v != nil {
		l.Verify = v.Text()
	}
	switch c.(type) {
	case caps.CHK:
		l.Repair = l.Verify
	case caps.MutableWrite:
		l.Repair = c.Text()
	}
	return l
}

// textOf is a capability's text; nil of one that is not there.
func textOf(c caps.Cap) *string {
	if c == nil {
		return nil
	}
	text := c.Text()
	return &text
}

// indexOf is the storage index, "" of what has none.
func indexOf(c caps.Cap) string {
	if index, ok := caps.Index(c); ok {
		return index.Text()
	}
	return ""
}

// stream answers with a line of JSON for each thing found, and one with the figures
// at the end; or, as Tahoe does, since the status was sent, with a line that begins
// with "ERROR:" and is no JSON.
func (s *server) stream(w http.ResponseWriter, r *http.Request, repair, check bool, walk func(context.Context, func(found) error) error) error {
	w.Header().Set("Content-Type", "text/plain;charset=utf-8")
	out := http.NewResponseController(w)
	write := func(v any) error {
		b, err := json.Marshal(v)
		if err == nil {
			_, err = w.Write(append(b, '\n'))
		}
		return err
	}
	stats := dirnode.NewStats()
	err := walk(r.Context(), func(f found) error {
		stats.Add(f.Step)
		l := f.line()
		switch {
		case check && repair:
			l.Repaired = repairedJSON(f.repaired)
		case check:
			l.Check = healthJSON(f.health)
		}
		if err := write(l); err != nil {
			return err
		}
		if check || f.Class == dirnode.DirectoryClass {
			if err := out.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		_, text := explain(err)
		name, what, ok := strings.Cut(text, ": ")
		if !ok || !errorName.MatchString(name) {
			name, what = "Error", text
		}
		what, _, _ = strings.Cut(what, "\n")
		_, err = fmt.Fprintf(w, "ERROR: %s(%s)\n", name, what)
	} else {
		err = write(map[string]any{"type": "stats", "stats": stats})
	}
	if err != nil {
		panic(http.ErrAbortHandler) // nobody listens
	}
	return nil
}

// errorName is what Tahoe calls an error.
var errorName = regexp.MustCompile(`^[A-Z][A-Za-z]+Error$`)
