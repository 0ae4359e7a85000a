package scan

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync"

	"github.com/bmatcuk/doublestar/v4"
	"golang.org/x/text/unicode/norm"

	"warren/magicfolder/fsys"
)

// IgnoreFile is the name of the files, in any directory of a folder, that say in
// the syntax of gitignore(5) what of that directory is not synced. They themselves
// are, unless their directory is not.
const IgnoreFile = ".warrenignore"

// Limits on one IgnoreFile, which may be another participant's: each file of the
// folder is held against each pattern.
const (
	maxIgnoreFile = 64 << 10
	maxPatterns   = 1000
)

// Ignore remembers a folder's ignore patterns, so that only files of them that have
// changed are read. Its methods may be called concurrently.
type Ignore struct {
	mu    sync.Mutex        // guards all below
	files map[string]*rules // by directory
	turn  int
}

// rules are what one IgnoreFile says. Of several that match the last one counts.
type rules struct {
	dir   string // with a slash behind, unless it is the root
	state fsys.State
	list  []rule
	bad   string // what is wrong with it, in words
}

type rule struct {
	pattern string
	dirOnly bool
	include bool
}

// Turn changes whenever other patterns were found than before.
func (g *Ignore) Turn() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.turn
}

// look is a look at the patterns, at one time: each IgnoreFile is asked for once.
type look struct {
	g     *Ignore
	disk  fsys.FS
	chain map[string][]*rules // by directory; the directory's own are last
}

// Look asks about paths on a disk, one after another.
func (g *Ignore) Look(disk fsys.FS) func(p string) bool {
	l := g.look(disk)
	return func(p string) bool { return l.under(p, false) }
}

func (g *Ignore) look(disk fsys.FS) *look { return &look{g, disk, map[string][]*rules{}} }

// in gives the patterns that count in a directory ("" is the root).
func (l *look) in(dir string) []*rules {
	if c, ok := l.chain[dir]; ok {
		return c
	}
	var c []*rules
	if dir != "" {
		c = l.in(parent(dir))
	}
	if own := l.g.read(l.disk, dir); own != nil {
		c = append(c[:len(c):len(c)], own)
	}
	l.chain[dir] = c
	return c
}

func parent(p string) string {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i]
	}
	return ""
}

// under says whether a path, or a directory above it, is ignored.
func (l *look) under(p string, dir bool) bool {
	for i := range len(p) {
		if p[i] == '/' && l.at(p[:i], true) {
			return true
		}
	}
	return l.at(p, dir)
}

// at is under for a path whose directories are known not to be ignored.
func (l *look) at(p string, dir bool) bool {
	chain := l.in(parent(p))
	if len(chain) == 0 || path.Base(p) == IgnoreFile {
		return false
	}
	for i := len(chain) - 1; i >= 0; i-- {
		rel := norm.NFC.String(p[len(chain[i].dir):])
		for j := len(chain[i].list) - 1; j >= 0; j-- {
			r := &chain[i].list[j]
			if r.dirOnly && !dir {
				continue
			}
			if ok, err := doublestar.Match(r.pattern, rel); err == nil && ok {
				return !r.include
			}
		}
	}
	return false
}

// read gives a directory's own patterns, from memory when the file is as it was;
// nil when there are none.
func (g *Ignore) read(disk fsys.FS, dir string) *rules {
	name := IgnoreFile
	if dir != "" {
		name = dir + "/" + name
	}
	it, err := disk.Lstat(name)
	g.mu.Lock()
	defer g.mu.Unlock()
	old := g.files[dir]
	if err != nil || it.Kind != fsys.Regular {
		if old != nil && (err == nil || errors.Is(err, fs.ErrNotExist)) {
			delete(g.files, dir)
			g.turn++
			old = nil
		}
		return old
	}
	if old != nil && old.state == it.State {
		return old
	}
	now := &rules{state: it.State}
	if dir != "" {
		now.dir = dir + "/"
	}
	f, err := disk.Open(name)
	if err == nil {
		now.list, now.bad, err = parseIgnore(f)
		f.Close()
	}
	if err != nil {
		if old != nil {
			return old
		}
		now.state, now.bad = fsys.State{}, "its patterns have no effect: it cannot be read"
	}
	if g.files == nil {
		g.files = map[string]*rules{}
	}
	g.files[dir] = now
	g.turn++
	return now
}

// parseIgnore reads patterns. A line that is none has no effect, and bad names the
// first one.
func parseIgnore(r io.Reader) (list []rule, bad string, err error) {
	in := bufio.NewScanner(io.LimitReader(r, maxIgnoreFile+1))
	in.Buffer(nil, maxIgnoreFile+2)
	size := 0
	for n := 1; in.Scan(); n++ {
		line := in.Text()
		if size += len(line) + 1; size > maxIgnoreFile || len(list) >= maxPatterns {
			return list, fmt.Sprintf("the patterns from line %d on have no effect: more than %d, or more than %d bytes", n, maxPatterns, maxIgnoreFile), nil
		}
		if n == 1 {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		r, ok, why := parsePattern(line)
		if why != "" && bad == "" {
			bad = fmt.Sprintf("line %d has no effect: %s: %s", n, why, fsys.Printable(line))
		}
		if ok {
			list = append(list, r)
		}
	}
	return list, bad, in.Err()
}

// parsePattern turns a line into a pattern of doublestar, which has "**" as git has
// it, and braces, which git does not have.
func parsePattern(line string) (r rule, ok bool, bad string) {
	line = norm.NFC.String(trimSpaces(line))
	if line == "" || line[0] == '#' {
		return r, false, ""
	}
	if line[0] == '!' {
		r.include, line = true, line[1:]
	}
	if line, r.dirOnly = strings.CutSuffix(line, "/"); line == "" {
		return r, false, "" // git takes it for nothing, too
	}
	anchored := strings.Contains(line, "/")
	line = strings.TrimPrefix(line, "/")
	if strings.Contains(line, "[[:") {
		return r, false, "classes with a name are not understood"
	}
	var b strings.Builder
	if !anchored {
		b.WriteString("**/")
	}
	for i := 0; i < len(line); i++ {
		switch {
		case line[i] == '\\' && i+1 < len(line):
			b.WriteByte('\\')
			i++
		case line[i] == '{' || line[i] == '}':
			b.WriteByte('\\')
		}
		b.WriteByte(line[i])
	}
	r.pattern = b.String()
	if strings.HasSuffix(r.pattern, "/**") {
		r.pattern += "/*" // what is in it, and not itself
	}
	if !doublestar.ValidatePattern(r.pattern) {
		return r, false, "no pattern"
	}
	return r, true, ""
}

// trimSpaces takes off spaces at the end that have no backslash before them.
func trimSpaces(line string) string {
	line = strings.TrimSuffix(line, "\r")
	for strings.HasSuffix(line, " ") {
		slashes := 0
		for i := len(line) - 2; i >= 0 && line[i] == '\\'; i-- {
			slashes++
		}
		if slashes%2 == 1 {
			break
		}
		line = line[:len(line)-1]
	}
	return line
}
