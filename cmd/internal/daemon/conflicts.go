package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"warren/magicfolder"
)

// ResolveRequest asks for the end of a conflict. Path is inside the folder, or on
// this machine, relative to From.
type ResolveRequest struct {
	Path        string           `json:"path"`
	From        string           `json:"from,omitempty"`
	Keep        magicfolder.Keep `json:"keep"`
	Participant string           `json:"participant,omitempty"`
}

// RestoreRequest asks for an earlier version of a file; without a Version, for the
// newest of a deleted one, or of all that is deleted below a directory: Path names
// one when it ends in a slash, or as magicfolder.IsDirectory has it. Path and From are
// otherwise as in ResolveRequest.
type RestoreRequest struct {
	Path    string `json:"path"`
	From    string `json:"from,omitempty"`
	Version string `json:"version,omitempty"`
}

// Undeleted answers an undelete: one of the two, flat.
type Undeleted struct {
	Restored *magicfolder.Restored // of a file
	Below    *magicfolder.Below    // of a directory
}

// MarshalJSON gives the one that there is.
func (u Undeleted) MarshalJSON() ([]byte, error) {
	if u.Below != nil {
		return json.Marshal(u.Below)
	}
	return json.Marshal(u.Restored)
}

// UnmarshalJSON takes what has files for a directory's.
func (u *Undeleted) UnmarshalJSON(b []byte) error {
	var has struct {
		Files *json.RawMessage `json:"files"`
	}
	*u = Undeleted{}
	if err := json.Unmarshal(b, &has); err != nil {
		return err
	}
	if has.Files != nil {
		return json.Unmarshal(b, &u.Below)
	}
	return json.Unmarshal(b, &u.Restored)
}

// HistoryLine is one line of a history: a version, or, as the last line, why there
// are no more.
type HistoryLine struct {
	*magicfolder.FileVersion
	Error  string `json:"error,omitempty"`
	Status int    `json:"status,omitempty"`
}

// lookBack adds the verbs about conflicts and histories.
func (d *Daemon) lookBack(mux *http.ServeMux, handle func(string, func(*http.Request) (any, error))) {
	folder := func(r *http.Request) (*magicfolder.Folder, error) { return d.folders.Folder(r.PathValue("name")) }
	handle("POST folders/{name}/scan", func(r *http.Request) (any, error) {
		f, err := folder(r)
		if err != nil {
			return nil, err
		}
		if err := f.ScanNow(r.Context()); err != nil {
			return nil, err
		}
		return f.Status(), nil
	})
	handle("POST folders/{name}/poll", func(r *http.Request) (any, error) {
		f, err := folder(r)
		if err != nil {
			return nil, err
		}
		if err := f.PollNow(r.Context()); err != nil {
			return nil, err
		}
		return f.Status(), nil
	})
	handle("GET folders/{name}/conflicts", func(r *http.Request) (any, error) {
		f, err := folder(r)
		if err != nil {
			return nil, err
		}
		return f.Conflicts(r.Context())
	})
	handle("POST folders/{name}/resolve", func(r *http.Request) (any, error) {
		f, err := folder(r)
		if err != nil {
			return nil, err
		}
		var q ResolveRequest
		if err := body(r, &q); err != nil {
			return nil, err
		}
		path, err := f.Locate(q.Path, q.From)
		if err != nil {
			return nil, err
		}
		return f.Resolve(r.Context(), magicfolder.Resolution{Path: path, Keep: q.Keep, Participant: q.Participant})
	})
	handle("GET folders/{name}/deleted", func(r *http.Request) (any, error) {
		f, err := folder(r)
		if err != nil {
			return nil, err
		}
		return f.Deleted(r.Context())
	})
	handle("POST folders/{name}/restore", d.restoreFile)
	handle("POST folders/{name}/undelete", d.undelete)
	mux.HandleFunc("GET /private/warren/v1/folders/{name}/history", d.history)
	mux.HandleFunc("GET /private/warren/v1/folders/{name}/version", d.version)
}

func (d *Daemon) restoreFile(r *http.Request) (any, error) {
	f, q, path, err := d.asked(r)
	if err != nil {
		return nil, err
	}
	if q.Version == "" {
		return nil, fmt.Errorf("%w: say which version", errRequest)
	}
	return f.Restore(r.Context(), path, q.Version)
}

func (d *Daemon) undelete(r *http.Request) (any, error) {
	f, q, path, err := d.asked(r)
	if err != nil {
		return nil, err
	}
	dir := strings.HasSuffix(q.Path, "/")
	if !dir {
		if dir, err = f.IsDirectory(r.Context(), path); err != nil {
			return nil, err
		}
	}
	if dir {
		out, err := f.UndeleteBelow(r.Context(), path)
		return Undeleted{Below: &out}, err
	}
	out, err := f.Undelete(r.Context(), path)
	return Undeleted{Restored: &out}, err
}

// asked finds the folder and the path that a RestoreRequest names.
func (d *Daemon) asked(r *http.Request) (*magicfolder.Folder, RestoreRequest, string, error) {
	var q RestoreRequest
	f, err := d.folders.Folder(r.PathValue("name"))
	if err != nil {
		return nil, q, "", err
	}
	if err := body(r, &q); err != nil {
		return nil, q, "", err
	}
	path, err := f.Locate(q.Path, q.From)
	return f, q, path, err
}

// locate finds the file that a request's query names.
func (d *Daemon) locate(r *http.Request) (*magicfolder.Folder, string, error) {
	f, err := d.folders.Folder(r.PathValue("name"))
	if err != nil {
		return nil, "", err
	}
	q := r.URL.Query()
	path, err := f.Locate(q.Get("path"), q.Get("from"))
	return f, path, err
}

// history streams a file's versions, a line of JSON each, as they are read.
func (d *Daemon) history(w http.ResponseWriter, r *http.Request) {
	f, path, err := d.locate(r)
	limit := 0
	if text := r.URL.Query().Get("limit"); err == nil && text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > magicfolder.MaxHistory {
			err = fmt.Errorf("%w: limit is from 1 to %d", errRequest, magicfolder.MaxHistory)
		}
	}
	if err != nil {
		refuse(w, err)
		return
	}
	flush := http.NewResponseController(w)
	enc, began := json.NewEncoder(w), false
	err = f.History(r.Context(), path, limit, func(v magicfolder.FileVersion) error {
		if !began {
			w.Header().Set("Content-Type", "application/x-ndjson")
		}
		began = true
		if err := enc.Encode(HistoryLine{FileVersion: &v}); err != nil {
			return err
		}
		if err := flush.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return err
		}
		return nil
	})
	switch {
	case err != nil && !began:
		refuse(w, err)
	case err != nil:
		if err := enc.Encode(HistoryLine{Error: err.Error(), Status: refusal(err)}); err != nil {
			d.opts.Log.Debug("answering a control request", "error", err)
		}
	}
}

// version streams the bytes of one version. What breaks off is cut short, so that
// nobody takes it for the whole.
func (d *Daemon) version(w http.ResponseWriter, r *http.Request) {
	f, path, err := d.locate(r)
	var v magicfolder.FileVersion
	if err == nil {
		v, err = f.Version(r.Context(), path, r.URL.Query().Get("version"))
	}
	if err != nil {
		refuse(w, err)
		return
	}
	out := &lateHeader{w: w, size: v.Size}
	if _, err := f.WriteVersion(r.Context(), path, v.ID, out); err != nil {
		if !out.began {
			refuse(w, err)
			return
		}
		panic(http.ErrAbortHandler)
	}
	out.begin()
}

// lateHeader writes the header with the first byte: before, there may be a refusal.
type lateHeader struct {
	w     http.ResponseWriter
	size  int64
	began bool
}

func (l *lateHeader) begin() {
	if !l.began {
		l.began = true
		l.w.Header().Set("Content-Type", "application/octet-stream")
		l.w.Header().Set("Content-Length", strconv.FormatInt(l.size, 10))
	}
}

func (l *lateHeader) Write(p []byte) (int, error) {
	l.begin()
	return l.w.Write(p)
}
