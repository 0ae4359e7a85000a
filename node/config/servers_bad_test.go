package config

import (
	"errors"
	"strings"
	"testing"
)

// TestBadServers: a servers.yaml that is none is refused as a whole, with the line; a
// server in it that is none is passed over, and named by its line, never quoted: both
// hold secrets.
func TestBadServers(t *testing.T) {
	const id = "sisi4zenj7cxncgvdog7szg3yxbrnamy"
	const good = "  v0-4uazse3xb6uu5qpkb7tel2bm6bpea4jhuigdhqcuvvse7hugtsia: {ann: {nickname: good}}\n"
	deep := strings.Repeat("{x: ", 30) + "s3cret" + strings.Repeat("}", 30)
	for _, c := range []struct {
		name, text, want string // want: in the error, or in the warning when it begins with "skipped"
	}{
		{"a broken list", "[", "not YAML"},
		{"a tab", "storage:\n\ts3cret: x", "not YAML"},
		{"a quote without end", "storage: \"s3cret", "not YAML"},
		{"no UTF-8", "storage: \xff", "not YAML"},
		{"a zero byte", "storage: {a: \x00}", "not YAML"},
		{"an alias of nothing", "storage: *s3cret", "not YAML"},
		{"text", "s3cret", "not a mapping"},
		{"a list", "- s3cret", "not a mapping"},
		{"storage is a list", "storage: [s3cret]", "storage is not a mapping"},
		{"storage is text", "storage: s3cret", "storage is not a mapping"},
		{"storage is an alias", "x: &s {a: b}\nstorage: *s\n", "storage is not a mapping"},
		{"storage twice", "storage: {}\nstorage: {}\n", "line 2: the same key twice"},
		{"a server twice", "storage:\n  " + id + ": {}\n  " + id + ": {}\n", "line 3: the same key twice"},
		{"a key of an announcement twice", "storage: {" + id + ": {ann: {a: s3cret, a: b}}}", "line 1: the same key twice"},
		{"nested too deep", "storage: {" + id + ": {ann: " + deep + "}}", "nested too deep"},

		{"an id that is a word", "storage:\n" + good + "  s3cret: {ann: {}}", "skipped: its id is not one"},
		{"an id that is a number", "storage:\n" + good + "  7: {ann: {}}", "skipped: its id is not one"},
		{"an id that is nothing", "storage:\n" + good + "  ~: {ann: {}}", "skipped: its id is not one"},
		{"an id that is a list", "storage:\n" + good + "  ? [" + id + "]\n  : {ann: {}}", "skipped: its id is not one"},
		{"a key of 31 bytes", "storage:\n" + good + "  v0-4uazse3xb6uu5qpkb7tel2bm6bpea4jhuigdhqcuvvse7hugts: {ann: {}}", "skipped: its id is not one"},
		{"a key of a version 1", "storage:\n" + good + "  v1-4uazse3xb6uu5qpkb7tel2bm6bpea4jhuigdhqcuvvse7hugtsia: {ann: {}}", "skipped: its id is not one"},
		{"a tub id in capitals", "storage:\n" + good + "  " + strings.ToUpper(id) + ": {ann: {}}", "skipped: its id is not one"},
		{"a tub id that is too long", "storage:\n" + good + "  " + id + "a: {ann: {}}", "skipped: its id is not one"},
		{"no announcement", "storage:\n" + good + "  " + id + ": {}", "skipped: it has no ann"},
		{"nothing for a server", "storage:\n" + good + "  " + id + ":", "skipped: it has no ann"},
		{"text for an announcement", "storage:\n" + good + "  " + id + ": {ann: s3cret}", "skipped: it has no ann"},
		{"a list for an announcement", "storage:\n" + good + "  " + id + ": {ann: [s3cret]}", "skipped: it has no ann"},
		{"a number for a key", "storage:\n" + good + "  " + id + ": {ann: {1: s3cret}}", "skipped: a key that is not text"},
		{"a date", "storage:\n" + good + "  " + id + ": {ann: {when: 2026-11-23}}", "skipped: a value of a type that announcements do not have"},
		{"bytes that are no text", "storage:\n" + good + "  " + id + ": {ann: {x: !!binary /w==}}", "skipped: text that is not UTF-8"},
		{"not the number that it says", "storage:\n" + good + "  " + id + ": {ann: {x: !!int s3cret}}", "skipped: a value of no known type"},
		{"an alias", "storage:\n" + good + "  " + id + ": {ann: {x: &a s3cret, y: *a}}", "skipped: an alias"},
		{"an announcement nested too deep", "storage:\n" + good + "  " + id + ": {ann: " + strings.Repeat("{x: ", 13) + "s3cret" + strings.Repeat("}", 13) + "}", "skipped: nested too deep"},
	} {
		n := created(t)
		if err := n.WritePrivate(serversYAML, []byte(c.text)); err != nil {
			t.Fatal(err)
		}
		servers, warnings, err := n.StaticServers()
		said := ""
		if _, skipped := strings.CutPrefix(c.want, "skipped: "); skipped {
			if err != nil || len(servers) != 1 || servers[0].Announcement["nickname"] != "good" || len(warnings) != 1 || !strings.Contains(warnings[0].Text, c.want) || !strings.Contains(warnings[0].Text, "line 3") {
				t.Errorf("%s: %v, %v, %v; want %q", c.name, servers, warnings, err, c.want)
			}
			for _, w := range warnings {
				said += w.Text
			}
		} else {
			if !errors.Is(err, ErrSyntax) || !strings.Contains(err.Error(), c.want) || len(servers) > 0 {
				t.Errorf("%s: %v, %v; want %q", c.name, servers, err, c.want)
			}
			if err != nil {
				said = err.Error()
			}
		}
		if strings.Contains(said, "s3cret") {
			t.Errorf("%s: what it says quotes the file: %s", c.name, said)
		}
	}
}
