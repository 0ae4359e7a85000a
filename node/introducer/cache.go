package introducer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"warren/node/durable"
)

// maxCache bounds the cache file that is read.
const maxCache = 64 << 20

// loadCache reads a cache file. No file is an empty cache. Entries that are not
// as they should be are left out: Tahoe's cache of a hostile grid may hold some.
func loadCache(path string) ([]Announcement, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("introducer: cache: %w", err)
	}
	if info.Size() > maxCache {
		return nil, errors.New("introducer: the cache is too large")
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("introducer: cache: %w", err)
	}
	return parseCache(b)
}

func parseCache(b []byte) ([]Announcement, error) {
	var entries []yaml.Node
	if err := yaml.Unmarshal(b, &entries); err != nil {
		return nil, errors.New("introducer: the cache is not a YAML list")
	}
	var out []Announcement
	for _, n := range entries {
		var e struct {
			Ann   map[string]any `yaml:"ann"`
			KeyID string         `yaml:"key_s"`
		}
		asTahoeReads(&n)
		if n.Decode(&e) != nil {
			continue
		}
		if _, err := unwrap([]byte(e.KeyID), 32); err != nil {
			continue
		}
		values, err := normal(e.Ann, 0)
		if err != nil {
			continue
		}
		if a, err := check(e.KeyID, values.(map[string]any)); err == nil {
			a.Cached = true
			out = append(out, a)
		}
	}
	return out, nil
}

// number is how Tahoe's writer writes a number.
var number = regexp.MustCompile(`^(-?(0|[1-9][0-9]*)(\.[0-9]*(e[-+][0-9]+)?)?|-?\.inf|\.nan)$`)

// asTahoeReads makes texts of what YAML 1.1, which Tahoe writes, takes for text
// without quotes, and our reader of YAML 1.2 for numbers or dates: a node may be
// called 08 or 1e3.
func asTahoeReads(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.Style == 0 {
		switch n.ShortTag() {
		case "!!int", "!!float", "!!timestamp":
			if !number.MatchString(n.Value) {
				n.Tag = "!!str"
			}
		}
	}
	for _, child := range n.Content {
		asTahoeReads(child)
	}
}

// saveCache writes a cache file.
func saveCache(path string, list []Announcement) error {
	return durable.WriteFile(path, formatCache(list), 0o600)
}

// formatCache writes what Tahoe's yaml.safe_dump does: a list of mappings with
// the keys ann and key_s, sorted keys, block style.
func formatCache(list []Announcement) []byte {
	if len(list) == 0 {
		return []byte("[]\n")
	}
	var b strings.Builder
	for _, a := range list {
		b.WriteString("- ann:")
		writeValue(&b, a.Values, "    ")
		b.WriteString("  key_s: " + scalar(a.KeyID) + "\n")
	}
	return []byte(b.String())
}

// writeValue writes what follows "key:" in a block mapping, with its line end.
func writeValue(b *strings.Builder, v any, indent string) {
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 {
			b.WriteString(" {}\n")
			return
		}
		b.WriteString("\n")
		writeMap(b, v, indent, indent)
	case []any:
		if len(v) == 0 {
			b.WriteString(" []\n")
			return
		}
		b.WriteString("\n")
		// Tahoe's writer puts a list in a mapping at the mapping's own depth.
		outer := indent[2:]
		for _, item := range v {
			b.WriteString(outer + "-")
			writeItem(b, item, outer+"  ")
		}
	default:
		b.WriteString(" " + scalar(v) + "\n")
	}
}

// writeItem writes what follows "-" in a block list.
func writeItem(b *strings.Builder, v any, indent string) {
	switch v := v.(type) {
	case map[string]any:
		if len(v) > 0 {
			b.WriteString(" ")
			writeMap(b, v, "", indent)
			return
		}
	case []any:
		if len(v) > 0 {
			for i, item := range v {
				if i == 0 {
					b.WriteString(" -")
				} else {
					b.WriteString(indent + "-")
				}
				writeItem(b, item, indent+"  ")
			}
			return
		}
	}
	writeValue(b, v, indent)
}

// writeMap writes a mapping's lines; the first one's indent may differ, after "-".
func writeMap(b *strings.Builder, v map[string]any, first, indent string) {
	keys := make([]string, 0, len(v))
	for k := range v {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for i, k := range keys {
		if i == 0 {
			b.WriteString(first)
		} else {
			b.WriteString(indent)
		}
		b.WriteString(scalar(k) + ":")
		writeValue(b, v[k], indent+"  ")
	}
}

// plain says whether every YAML reader takes s, unquoted, for the string that it
// looks like. YAML 1.1, which Tahoe reads, sees numbers, dates and merges in
// surprising places, so that only what begins with a letter is, and the two kinds
// of string beginning with a digit that every announcement has: base32 and
// versions.
func plain(s string) bool {
	if s == "" || '0' <= s[0] && s[0] <= '9' {
		return plainBase32(s) || plainVersion(s)
	}
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		switch {
		case letter:
		case i == 0:
			return false
		case '0' <= c && c <= '9' || strings.IndexByte("-_./@,+=", c) >= 0:
		case c == '#' || c == ':' && i+1 < len(s): // no space precedes or follows
		default:
			return false
		}
	}
	switch strings.ToLower(s) {
	case "y", "n", "yes", "no", "on", "off", "true", "false", "null":
		return false
	}
	return true
}

// plainBase32: digits and lower-case letters, at least one of which is in no
// number (0x, 0o and 0b begin some).
func plainBase32(s string) bool {
	sure := false
	for i := range len(s) {
		switch c := s[i]; {
		case 'g' <= c && c <= 'z':
			sure = sure || c != 'o' && c != 'x'
		case 'a' <= c && c < 'g', '0' <= c && c <= '9':
		default:
			return false
		}
	}
	return sure
}

// plainVersion: digits with at least two dots between them.
func plainVersion(s string) bool {
	return strings.Trim(s, "0123456789.") == "" && strings.Count(s, ".") >= 2 &&
		!strings.Contains(s, "..") && !strings.HasSuffix(s, ".")
}

// scalar writes a value that is no collection.
func scalar(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return fmt.Sprint(v)
	case int64:
		return fmt.Sprint(v)
	case float64:
		s := fmt.Sprint(v)
		if !strings.ContainsAny(s, ".") { // 1e+06 and 1 are no floats to YAML 1.1
			mantissa, exponent, ok := strings.Cut(s, "e")
			if s = mantissa + ".0"; ok {
				s += "e" + exponent
			}
		}
		return s
	case string:
		if plain(v) {
			return v
		}
		return quote(v)
	}
	panic(fmt.Sprintf("introducer: a %T in an announcement", v)) // normal lets none pass
}

// quote writes a double-quoted string in ASCII.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r >= ' ' && r <= '~':
			b.WriteRune(r)
		case r <= 0xff:
			fmt.Fprintf(&b, `\x%02X`, r)
		case r <= 0xffff:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			fmt.Fprintf(&b, `\U%08X`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
