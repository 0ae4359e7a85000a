package webapi

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"warren/node/caps"
	"warren/node/dirnode"
)

// layouts are the pages for people. html/template escapes what they show by where it
// stands: names and metadata are other people's.
const layouts = `
{{define "head"}}<!DOCTYPE html><html lang=en><head><meta charset=utf-8><title>{{.}}</title></head><body><h1>{{.}}</h1>{{end}}
{{define "foot"}}<p><a href="/">Welcome page</a></p></body></html>
{{end}}
{{define "directory"}}{{template "head" .Title}}
<p><a href="{{.Here}}/?t=info">More info</a>{{with .ReadOnly}} <a href="{{.}}">Read-only version</a>{{end}}</p>
<table><tr><th>Type<th>Name<th>Size<th>Times<th>Info{{if .Writable}}<th>Change{{end}}
{{- range .Children}}
<tr><td>{{.Type}}<td>{{if .Link}}<a rel=noreferrer href="{{.Link}}">{{.Name}}</a>{{else}}{{.Name}}{{end}}<td>{{.Size}}<td>{{.Times}}<td><a href="{{.Info}}">info</a>
{{- if $.Writable}}<td><form action="{{$.Here}}/" method=post><input type=hidden name=t value=unlink><input type=hidden name=name value="{{.Name}}"><input type=hidden name=when_done value="."><input type=submit value=unlink></form>
<form action="{{$.Here}}/" method=get><input type=hidden name=t value=rename-form><input type=hidden name=name value="{{.Name}}"><input type=submit value=rename></form>{{end}}
{{- end}}
</table>
{{if .Writable}}
<form action="{{.Here}}/" method=post enctype="multipart/form-data"><input type=hidden name=t value=mkdir><input type=hidden name=when_done value=".">Make a directory: <input name=name> <select name=format><option>SDMF<option>MDMF</select> <input type=submit value=Make></form>
<form action="{{.Here}}/" method=post enctype="multipart/form-data"><input type=hidden name=t value=upload><input type=hidden name=when_done value=".">Store a file: <input type=file name=file> <select name=format><option>CHK<option>SDMF<option>MDMF</select> <input type=submit value=Store></form>
<form action="{{.Here}}/" method=post enctype="multipart/form-data"><input type=hidden name=t value=uri><input type=hidden name=when_done value=".">Link what is on the grid: name <input name=name> capability <input name=uri> <input type=submit value=Link></form>
{{end}}{{template "foot"}}{{end}}
{{define "rename"}}{{template "head" .Title}}
<form action="{{.Here}}/" method=post enctype="multipart/form-data"><input type=hidden name=t value=rename><input type=hidden name=when_done value=".">
Rename <input name=from_name readonly value="{{.Name}}"> to <input name=to_name> <input type=submit value=rename></form>
{{template "foot"}}{{end}}
{{define "info"}}{{template "head" .Title}}
<ul>{{range .Facts}}<li>{{index . 0}}: <code>{{index . 1}}</code>{{end}}</ul>
{{with .Raw}}<p><a rel=noreferrer href="{{.}}">Raw data as text/plain</a></p>{{end}}
{{with .Here}}<form action="{{.}}" method=post enctype="multipart/form-data"><input type=hidden name=t value=check>
<input type=checkbox name=verify>Read every byte <input type=checkbox name=repair>Repair <input type=checkbox name=add-lease>Add or renew leases <input type=checkbox name=output value=JSON>JSON <input type=submit value=Check></form>{{end}}
{{template "foot"}}{{end}}
{{define "uploaded"}}{{template "head" "File Uploaded"}}<p>URI: <code>{{.URI}}</code></p><p><a href="{{.Link}}">Download link</a></p>{{template "foot"}}{{end}}
{{define "text"}}{{template "head" .Title}}<pre>{{.Text}}</pre>{{template "foot"}}{{end}}
{{define "list"}}{{template "head" .Title}}{{range .Parts}}<h2>{{.Title}}</h2><ul>{{range .Items}}<li>{{if .Link}}<a href="{{.Link}}">{{.Text}}</a>{{else}}{{.Text}}{{end}}{{end}}</ul>{{end}}{{template "foot"}}{{end}}
`

// item is a line of a "list".
type item struct{ Text, Link string }

// part is a headed list.
type part struct {
	Title string
	Items []item
}

type listPage struct {
	Title string
	Parts []part
}

// page sends a page of our own. It runs no scripts and loads nothing. Its forms post
// to this node: with the guard's no-referrer they would name no Origin, and be refused.
func (s *server) page(w http.ResponseWriter, code int, name string, data any) error {
	var b bytes.Buffer
	if err := s.pages.ExecuteTemplate(&b, name, data); err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "text/html;charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "same-origin")
	w.WriteHeader(code)
	_, _ = b.WriteTo(w) // who does not listen any more has gone
	return nil
}

// here is the path of what a cap names.
func here(c caps.Cap) string { return "/uri/" + url.PathEscape(c.Text()) }

// raw is a path under which a file is downloaded, without a word of the directory
// that it is in: a page in it could read its own address.
func raw(c caps.Cap, name string) string {
	return "/file/" + url.PathEscape(c.Text()) + "/@@named=/" + url.PathEscape(name)
}

// short is how pages call a storage index.
func short(c caps.Cap) string {
	if si, ok := caps.Index(c); ok {
		return si.Text()[:6]
	}
	return "LIT"
}

type childLine struct{ Type, Name, Link, Size, Times, Info string }

func (s *server) dirPage(w http.ResponseWriter, r *http.Request, c caps.Cap) error {
	entries, err := s.Grid.List(r.Context(), c)
	if err != nil {
		return err
	}
	title, note := "Directory SI="+short(c), ""
	switch {
	case !caps.IsMutable(c):
		note = " (immutable)"
	case caps.IsReadOnly(c):
		note = " (read-only)"
	}
	data := struct {
		Title, Here, ReadOnly string
		Writable              bool
		Children              []childLine
	}{title + note, here(c), "", !caps.IsReadOnly(c), make([]childLine, 0, len(entries))}
	if data.Writable {
		data.ReadOnly = here(caps.ReadOnly(c)) + "/"
	}
	for _, e := range entries {
		data.Children = append(data.Children, describeLine(c, e))
	}
	return s.page(w, http.StatusOK, "directory", data)
}

// describeLine is an entry of a directory's page.
func describeLine(dir caps.Cap, e dirnode.Entry) childLine {
	c := e.Cap()
	line := childLine{Name: e.Name, Size: "-", Times: times(e.Metadata), Info: here(dir) + "/" + url.PathEscape(e.Name) + "?t=info"}
	if kind(c) == "unknown" {
		u, _ := e.Read.(caps.Unknown)
		switch {
		case e.Write != nil:
			line.Type = "?"
		case !caps.IsMutable(dir) || u.AllegedImmutable():
			line.Type = "?-IMM"
		default:
			line.Type = "?-RO"
		}
		return line
	}
	line.Info = here(c) + "?t=info"
	switch {
	case caps.IsDir(c):
		line.Link, line.Type = here(c)+"/", "DIR"
		if !caps.IsMutable(c) {
			line.Type = "DIR-IMM"
		} else if caps.IsReadOnly(c) {
			line.Type = "DIR-RO"
		}
	case caps.IsMutable(c):
		line.Link, line.Type, line.Size = raw(c, e.Name), "SSK", "?"
	default:
		line.Link, line.Type = raw(c, e.Name), "FILE"
		if size, ok := sizeIn(c); ok {
			line.Size = strconv.FormatUint(size, 10)
		}
	}
	return line
}

// sizeIn is a file's size where its capability says it.
func sizeIn(c caps.Cap) (uint64, bool) {
	switch v := c.(type) {
	case caps.LIT:
		return uint64(len(v.Data)), true
	case caps.CHK:
		return v.Size, true
	case caps.CHKVerify:
		return v.Size, true
	}
	return 0, false
}

// times tells when an entry was made and changed.
func times(metadata json.RawMessage) string {
	var m struct {
		Tahoe struct {
			Created  *float64 `json:"linkcrtime"`
			Modified *float64 `json:"linkmotime"`
		} `json:"tahoe"`
	}
	if json.Unmarshal(metadata, &m) != nil {
		return ""
	}
	var out []string
	for _, t := range []struct {
		name string
		at   *float64
	}{{"lcr", m.Tahoe.Created}, {"lmo", m.Tahoe.Modified}} {
		if t.at != nil && *t.at >= 0 && *t.at < 1<<40 {
			out = append(out, t.name+": "+time.Unix(int64(*t.at), 0).Format(time.DateTime))
		}
	}
	return strings.Join(out, ", ")
}

// renamePage is t=rename-form: it asks for the new name.
func (s *server) renamePage(w http.ResponseWriter, r *http.Request, dir caps.Cap) error {
	title := "Rename in directory SI=" + short(dir)
	if caps.IsReadOnly(dir) {
		title += " (readonly!)"
	}
	return s.page(w, http.StatusOK, "rename", struct{ Title, Here, Name string }{title + ":", here(dir), arg(r, "name")})
}

// infoPage is t=info: all that is known of a file or directory.
func (s *server) infoPage(w http.ResponseWriter, r *http.Request, at place) error {
	c := at.cap
	what := "unknown"
	_, unknown := c.(caps.Unknown)
	switch {
	case unknown:
	case caps.IsDir(c) && caps.IsMutable(c):
		what = "directory"
	case caps.IsDir(c):
		what = "immutable directory"
	case caps.IsMutable(c):
		what = "mutable file (" + strings.ToLower(describe(dirnode.NewEntry("", c, nil), false)["format"].(string)) + ")"
	case c.Kind() == "LIT":
		what = "immutable LIT file"
	default:
		what = "immutable file"
	}
	data := struct {
		Title, Here, Raw string
		Facts            [][2]string
	}{Title: "More Info for " + what}
	fact := func(name, value string) { data.Facts = append(data.Facts, [2]string{name, value}) }
	fact("Object Type", what)
	si, ok := caps.Index(c)
	if ok {
		data.Title += " (SI=" + short(c) + ")"
		fact("Storage Index", si.Text())
	} else {
		fact("Storage Index", "None")
	}
	if unknown {
		e := at.entry
		if at.parent == nil {
			e = dirnode.NewEntry("", c, nil)
		}
		if e.Write != nil {
			fact("Write-cap", e.Write.Text())
		}
		if e.Read != nil {
			fact("Read-cap", e.Read.Text())
		}
		return s.page(w, http.StatusOK, "info", data)
	}
	if ok { // others cannot be checked, and need not
		data.Here = here(c)
	}
	size := "?"
	if n, ok := sizeIn(caps.File(c)); ok {
		size = strconv.FormatUint(n, 10)
	} else if f, err := s.Grid.Open(r.Context(), caps.File(c)); err == nil {
		size = strconv.FormatInt(f.Size(), 10)
		f.Close()
	}
	fact("Size", size)
	name := "File"
	if caps.IsDir(c) {
		name = "Directory"
	}
	for _, both := range []caps.Cap{c, caps.File(c)} {
		if !caps.IsReadOnly(both) {
			fact(name+" Write-cap", both.Text())
		}
		if ro := caps.ReadOnly(both); ro != nil {
			fact(name+" Read-cap", ro.Text())
		}
		if v := caps.Verifier(both); v != nil {
			fact(name+" Verify-cap", v.Text())
		}
		if name == "File" {
			break
		}
		name = "File"
	}
	data.Raw = raw(caps.File(c), "raw.txt")
	return s.page(w, http.StatusOK, "info", data)
}

// uploaded answers a form that stored a file without a name.
func (s *server) uploaded(w http.ResponseWriter, c caps.Cap) error {
	return s.page(w, http.StatusOK, "uploaded", struct{ URI, Link string }{c.Text(), here(c)})
}

// wantsPage says that whoever asks is a browser.
func wantsPage(r *http.Request) bool { return strings.Contains(r.Header.Get("Accept"), "text/html") }

// answer answers an error: a browser with a page, everybody else with text.
func (s *server) answer(w http.ResponseWriter, r *http.Request, err error) {
	if !wantsPage(r) {
		fail(w, err)
		return
	}
	code, text := explain(err)
	clearFile(w)
	if err := s.page(w, code, "text", struct{ Title, Text string }{http.StatusText(code), text}); err != nil {
		plain(w, code, text)
	}
}
