package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	cli "github.com/urfave/cli/v2"
	"golang.org/x/text/unicode/norm"

	"warren/cmd/internal/backupdb"
	"warren/cmd/internal/ui"
)

// exitSkipped is backup's own, as in Tahoe: all is stored but what was told of.
const exitSkipped = 2

type backupOptions struct {
	from, to         string
	exclude          []*regexp.Regexp
	ignoreTimestamps bool
	verbose          bool
}

// ofVersionControl are what --exclude-vcs leaves out, Tahoe's list.
var ofVersionControl = []string{
	"CVS", "RCS", "SCCS", ".git", ".gitignore", ".cvsignore", ".svn", ".arch-ids", "{arch}", "=RELEASE-ID", "=meta-update", "=update",
	".bzr", ".bzrignore", ".bzrtags", ".hg", ".hgignore", "_darcs",
}

func (e *env) backupCommand() *cli.Command {
	return e.onGrid(&cli.Command{
		Name: "backup", Usage: "store a directory of this machine as one more version in an archive on the grid",
		ArgsUsage: "FROM ALIAS:TO",
		Description: "Makes TO/Archives/TIME, an immutable directory, and lets TO/Latest lead to it. What did not change since an\n" +
			"earlier backup is not read again; private/warren_backup.db in the node directory remembers it. Symbolic links\n" +
			"and special files are not stored. Exit code 2: some things could not be stored, and standard error says which.\n" +
			"Patterns are of the shell's kind (* ? [a-z] [!a-z]) and match names, not paths.\n" + places,
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "exclude", Usage: "leave out what matches a `PATTERN`; may be repeated"},
			&cli.StringSliceFlag{Name: "exclude-from-utf-8", Usage: "leave out what matches a line of a `FILE`"},
			&cli.BoolFlag{Name: "exclude-vcs", Usage: "leave out what belongs to CVS, RCS, SCCS, Git, SVN, Arch, Bazaar, Mercurial, Darcs"},
			&cli.BoolFlag{Name: "ignore-timestamps", Usage: "read all files again"},
			&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "say what is done with each file"},
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 2, 2); err != nil {
				return err
			}
			patterns := c.StringSlice("exclude")
			for _, file := range c.StringSlice("exclude-from-utf-8") {
				text, err := os.ReadFile(file)
				if err != nil {
					return err
				}
				if !utf8.Valid(text) {
					return ui.Usage("%s is not UTF-8", file)
				}
				patterns = append(patterns, strings.Split(string(text), "\n")...)
			}
			if c.Bool("exclude-vcs") {
				patterns = append(patterns, ofVersionControl...)
			}
			o := backupOptions{from: c.Args().Get(0), to: c.Args().Get(1), ignoreTimestamps: c.Bool("ignore-timestamps"), verbose: c.Bool("verbose")}
			for _, p := range patterns {
				if p = strings.TrimSpace(p); p == "" {
					continue
				}
				re, err := glob(p)
				if err != nil {
					return err
				}
				o.exclude = append(o.exclude, re)
			}
			return e.backup(c.Context, o)
		},
	})
}

// glob is a pattern as Python's fnmatch reads it.
func glob(pattern string) (*regexp.Regexp, error) {
	re := `(?s)\A`
	for rest := pattern; rest != ""; {
		r, n := utf8.DecodeRuneInString(rest)
		rest = rest[n:]
		switch r {
		case '*':
			re += ".*"
			continue
		case '?':
			re += "."
			continue
		case '[':
			// A bracket that comes first in its class is one of it.
			set, not := strings.CutPrefix(rest, "!")
			if end := strings.IndexByte(set[min(1, len(set)):], ']'); end >= 0 {
				end++
				re += "["
				if not {
					re += "^"
				}
				for _, r := range set[:end] {
					if strings.ContainsRune(`\[]^&~`, r) {
						re += `\`
					}
					re += string(r)
				}
				re += "]"
				rest = set[end+1:]
				continue
			}
		}
		re += regexp.QuoteMeta(string(r))
	}
	compiled, err := regexp.Compile(re + `\z`)
	if err != nil {
		return nil, ui.Usage("%q is no pattern", pattern)
	}
	return compiled, nil
}

// backupCounts is what a backup did, under --json as it stands here.
type backupCounts struct {
	FilesUploaded, FilesReused, FilesSkipped, FilesChecked int
	DirsCreated, DirsReused, DirsSkipped, DirsChecked      int
}

// backer is one run of backup.
type backer struct {
	*env
	backupCounts
	node  *nodeClient
	db    *backupdb.DB
	o     backupOptions
	total int
	began time.Time
}

func (e *env) backup(ctx context.Context, o backupOptions) error {
	from, err := filepath.Abs(o.from)
	if err != nil {
		return err
	}
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return ui.Usage("%s is not a directory", o.from)
	}
	node, err := e.open(ctx)
	if err != nil {
		return err
	}
	to, err := e.at(o.to)
	if err != nil {
		return err
	}
	db, err := backupdb.Open(filepath.Join(e.dir, "private", "warren_backup.db"), time.Now, rand.Float64)
	if err != nil {
		return err
	}
	defer db.Close()
	b := &backer{env: e, node: node, db: db, o: o, began: time.Now()}

	archives := to + "/Archives"
	n, err := node.stat(ctx, archives)
	var known *ui.Error
	switch {
	case errors.As(err, &known) && known.Code == ui.ExitNotFound:
		if _, err := node.text(ctx, "POST", archives+"?t=mkdir", nil); err != nil {
			return fmt.Errorf("the target directory cannot be made: %w", err)
		}
	case err != nil:
		return err
	case n.Kind != "dirnode":
		return errors.New("the target directory has an entry Archives that is not a directory")
	}
	b.total = b.count(from)
	cap, ok, err := b.directory(ctx, from)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%s cannot be listed: %w", o.from, fs.ErrPermission)
	}
	name, err := b.archive(ctx, archives, cap)
	if err != nil {
		return err
	}
	if _, err := node.link(ctx, to+"/Latest", cap, ""); err != nil {
		return fmt.Errorf("the backup stands in Archives, but Latest could not be changed: %w", err)
	}
	if err := b.report(name, cap); err != nil {
		return err
	}
	if b.FilesSkipped+b.DirsSkipped > 0 {
		return ui.Fail(exitSkipped, "all else is stored", fmt.Errorf("skipped: %s, %s", plural(b.FilesSkipped, "file", "files"), plural(b.DirsSkipped, "directory", "directories")))
	}
	return nil
}

// archive gives the backup the time as its name, or, when another has that, a second
// more.
func (b *backer) archive(ctx context.Context, archives, cap string) (string, error) {
	for at := time.Now().UTC(); ; at = at.Add(time.Second) {
		name := at.Format("2006-01-02_15:04:05Z")
		status, err := b.node.link(ctx, archives+"/"+url.PathEscape(name), cap, "replace=false")
		if status != http.StatusConflict {
			return name, err
		}
	}
}

func (b *backer) report(name, cap string) error {
	if b.ui.JSON {
		return b.ui.Data(map[string]any{"archive": name, "cap": cap, "seconds": seconds(b.began),
			"files":       map[string]int{"uploaded": b.FilesUploaded, "reused": b.FilesReused, "skipped": b.FilesSkipped, "checked": b.FilesChecked},
			"directories": map[string]int{"created": b.DirsCreated, "reused": b.DirsReused, "skipped": b.DirsSkipped, "checked": b.DirsChecked}})
	}
	if !b.ui.Quiet {
		b.ui.Result(" %d files uploaded (%d reused), %d files skipped, %d directories created (%d reused), %d directories skipped",
			b.FilesUploaded, b.FilesReused, b.FilesSkipped, b.DirsCreated, b.DirsReused, b.DirsSkipped)
	}
	if b.o.verbose {
		b.ui.Result(" %d files checked, %d directories checked", b.FilesChecked, b.DirsChecked)
	}
	t := int(time.Since(b.began).Seconds())
	b.ui.Result(" backup done, elapsed time: %d:%02d:%02d", t/3600, t/60%60, t%60)
	return nil
}

// excluded says whether a name is left out without a word.
func (b *backer) excluded(name string) bool {
	for _, re := range b.o.exclude {
		if re.MatchString(name) {
			return true
		}
	}
	return false
}

// count counts what there is to do in a directory, itself included.
func (b *backer) count(dir string) int {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 1
	}
	n := 1
	for _, entry := range entries {
		switch {
		case b.excluded(entry.Name()):
		case entry.IsDir():
			n += b.count(filepath.Join(dir, entry.Name()))
		default:
			n++
		}
	}
	return n
}

// detail says what is done, when asked to.
func (b *backer) detail(format string, args ...any) {
	if b.o.verbose && !b.ui.JSON {
		b.ui.Result("%s", ui.Clean(fmt.Sprintf(format, args...)))
	}
}

// step ends one thing to do.
func (b *backer) step(counter *int) {
	*counter++
	if b.ui.JSON || b.ui.Quiet {
		return
	}
	done := b.FilesUploaded + b.FilesReused + b.FilesSkipped + b.DirsCreated + b.DirsReused + b.DirsSkipped
	t := int(time.Since(b.began).Seconds())
	b.ui.Result("Backing up %d/%d... %dh %dm %ds elapsed...", done, b.total, t/3600, t/60%60, t%60)
}

// skip leaves out what cannot be stored, and says so whoever asked for silence.
func (b *backer) skip(counter *int, format string, args ...any) {
	fmt.Fprintf(b.ui.Err, "WARNING: %s\n", ui.Clean(fmt.Sprintf(format, args...)))
	b.step(counter)
}

// unreadable skips what this machine does not let us read.
func (b *backer) unreadable(counter *int, kind, path string, err error) {
	if errors.Is(err, fs.ErrPermission) {
		b.skip(counter, "permission denied on %s %s", kind, quote(path, true))
		return
	}
	b.skip(counter, "cannot read %s %s: %v", kind, quote(path, true), err)
}

// backupEntry is an entry of a directory that is made, as the web API wants it.
type backupEntry struct {
	ReadOnly string         `json:"ro_uri"`
	Metadata map[string]any `json:"metadata"`
}

// directory stores a directory with all that it holds and returns its capability;
// false when it cannot be listed. One directory's entries at a time are in memory,
// and those of the directories above it.
func (b *backer) directory(ctx context.Context, dir string) (string, bool, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		b.unreadable(&b.DirsSkipped, "directory", dir, err)
		return "", false, nil
	}
	contents, made := map[string]string{}, map[string]any{}
	seen := map[string]bool{}
	for _, entry := range entries {
		if ctx.Err() != nil {
			return "", false, ctx.Err()
		}
		name := entry.Name()
		path := filepath.Join(dir, name)
		key := norm.NFC.String(name) // as a directory of the grid knows it
		kind := "filenode"
		var cap string
		var stat localStat
		var ok bool
		switch {
		case b.excluded(name):
			continue
		case !utf8.ValidString(name):
			b.skip(b.skipped(entry), "could not list %s %s due to a filename encoding error", kindOf(entry), quote(path, true))
			continue
		case seen[key]:
			b.skip(b.skipped(entry), "cannot backup %s %s: another one has that name on the grid", kindOf(entry), quote(path, true))
			continue
		case entry.Type() == fs.ModeSymlink:
			b.skip(&b.FilesSkipped, "cannot backup symlink %s", quote(path, true))
			continue
		case entry.IsDir():
			kind = "dirnode"
			if stat, err = statLocal(path); err != nil {
				b.unreadable(&b.DirsSkipped, "directory", path, err)
				continue
			}
			cap, ok, err = b.directory(ctx, path)
		case entry.Type().IsRegular():
			cap, stat, ok, err = b.file(ctx, path)
		default:
			b.skip(&b.FilesSkipped, "cannot backup special %s", quote(path, true))
			continue
		}
		if err != nil {
			return "", false, err
		}
		if ok {
			seen[key] = true
			contents[name], made[name] = cap, []any{kind, backupEntry{cap, stat.metadata}}
		}
	}
	hash := backupdb.Hash(contents)
	known, err := b.db.Directory(hash)
	if err != nil {
		return "", false, err
	}
	if known.Check {
		b.detail("checking %s", quote(known.Cap, true))
		b.DirsChecked++
		healthy, err := b.healthy(ctx, known.Cap)
		if err != nil {
			return "", false, err
		}
		if !healthy {
			known.Cap = ""
		} else if err := b.db.StoredDirectory(hash, known.Cap); err != nil {
			return "", false, err
		}
	}
	if known.Cap != "" {
		b.detail(" re-using old directory for %s", quote(dir, true))
		b.step(&b.DirsReused)
		return known.Cap, true, nil
	}
	b.detail(" creating directory for %s", quote(dir, true))
	body, err := json.Marshal(made)
	if err != nil {
		return "", false, err
	}
	text, err := b.node.text(ctx, "POST", "/uri?t=mkdir-immutable", bytes.NewReader(body))
	if err != nil {
		return "", false, err
	}
	cap, err := capOf(text)
	if err != nil {
		return "", false, err
	}
	if err := b.db.StoredDirectory(hash, cap); err != nil {
		return "", false, err
	}
	b.step(&b.DirsCreated)
	return cap, true, nil
}

// capOf reads an answer that is a capability.
func capOf(text string) (string, error) {
	text = strings.TrimSpace(text)
	if !strings.HasPrefix(text, "URI:") {
		return "", errors.New("the node's answer makes no sense: it is no capability")
	}
	return text, nil
}

func kindOf(entry fs.DirEntry) string {
	if entry.IsDir() {
		return "directory"
	}
	return "file"
}

func (b *backer) skipped(entry fs.DirEntry) *int {
	if entry.IsDir() {
		return &b.DirsSkipped
	}
	return &b.FilesSkipped
}

// healthy says whether what a capability names needs not be stored again. What
// cannot be checked is not; ctx's end alone is an error.
func (b *backer) healthy(ctx context.Context, cap string) (bool, error) {
	text, err := b.node.text(ctx, "POST", capPath(cap)+"?t=check&output=JSON", nil)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	var r checkResults
	return err == nil && json.Unmarshal([]byte(text), &r) == nil && r.Results != nil && r.Results.Healthy, nil
}

// localStat is a file or directory of this machine, as a backup keeps it.
type localStat struct {
	backupdb.Attributes
	metadata map[string]any // Tahoe's keys: ctime, mtime, and what the system has
}

// file stores a file, if it has changed, and returns its capability; false when it
// cannot be read.
func (b *backer) file(ctx context.Context, path string) (string, localStat, bool, error) {
	// What changes while it is read is stored again by the next backup: it is these
	// times that are noted.
	stat, err := statLocal(path)
	if err != nil {
		b.unreadable(&b.FilesSkipped, "file", path, err)
		return "", stat, false, nil
	}
	var known backupdb.Known
	if !b.o.ignoreTimestamps {
		if known, err = b.db.File(path, stat.Attributes); err != nil {
			return "", stat, false, err
		}
	}
	if known.Check {
		b.detail("checking %s", quote(known.Cap, true))
		b.FilesChecked++
		healthy, err := b.healthy(ctx, known.Cap)
		if err != nil {
			return "", stat, false, err
		}
		if !healthy {
			known.Cap = ""
		} else if err := b.db.HealthyFile(known.Cap); err != nil {
			return "", stat, false, err
		}
	}
	if known.Cap != "" {
		b.detail("skipping %s..", quote(path, true))
		b.step(&b.FilesReused)
		return known.Cap, stat, true, nil
	}
	b.detail("uploading %s..", quote(path, true))
	f, err := os.Open(path)
	if err != nil {
		b.unreadable(&b.FilesSkipped, "file", path, err)
		return "", stat, false, nil
	}
	defer f.Close()
	// Its length is not promised: a log may be cut short meanwhile.
	source := &remembering{Reader: f}
	told, err := b.store(ctx, b.node, "/uri", source, -1)
	if source.err != nil && ctx.Err() == nil {
		b.unreadable(&b.FilesSkipped, "file", path, source.err)
		return "", stat, false, nil
	}
	if err != nil {
		return "", stat, false, err
	}
	cap, err := capOf(told.Text)
	if err != nil {
		return "", stat, false, err
	}
	b.detail(" %s -> %s", quote(path, false), quote(cap, false))
	if err := b.db.StoredFile(path, stat.Attributes, cap); err != nil {
		return "", stat, false, err
	}
	b.step(&b.FilesUploaded)
	return cap, stat, true, nil
}
