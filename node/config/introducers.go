package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"warren/node/furl"
	"warren/node/taghash"
)

const (
	introducersYAML = "introducers.yaml"
	serversYAML     = "servers.yaml"
	maxPetname      = 100
)

// KnownIntroducer is an introducer that the node is to connect to.
type KnownIntroducer struct {
	Petname string
	FURL    furl.FURL
	// CacheFile keeps the announcements last heard.
	CacheFile string
}

// CheckPetname says whether a name can be an introducer's: it becomes part of a file
// name.
func CheckPetname(name string) error {
	if name == "" || len(name) > maxPetname || strings.ContainsAny(name, `/\:`) {
		return fmt.Errorf("%w: introducer name", ErrValue)
	}
	return CheckValue(name)
}

// Introducers are those of private/introducers.yaml and the deprecated one of
// tahoe.cfg, which is called "default"; sorted by name.
func (n *Node) Introducers() ([]KnownIntroducer, error) {
	doc, err := n.readYAML(introducersYAML)
	if err != nil {
		return nil, err
	}
	found, err := introducersIn(doc)
	if err != nil {
		return nil, err
	}
	if f := n.Settings.Client.IntroducerFURL; f != nil {
		if _, twice := found["default"]; twice {
			return nil, &Error{File: tahoeCfg, Section: "client", Key: "introducer.furl",
				Detail: "introducers.yaml names a default introducer too", Err: ErrConflict}
		}
		found["default"] = *f
	}
	var out []KnownIntroducer
	for name, f := range found {
		out = append(out, KnownIntroducer{name, f, n.PrivatePath("introducer_" + name + "_cache.yaml")})
	}
	slices.SortFunc(out, func(a, b KnownIntroducer) int { return strings.Compare(a.Petname, b.Petname) })
	return out, nil
}

// SetIntroducer adds an introducer or changes its address; whatever else the file
// says is kept.
func (n *Node) SetIntroducer(petname string, f furl.FURL) error {
	if err := CheckPetname(petname); err != nil {
		return err
	}
	if _, err := furl.Parse(f.Text()); err != nil {
		return fmt.Errorf("%w: introducer FURL: %w", ErrValue, err)
	}
	return n.editIntroducers(func(all *yaml.Node) {
		entry := child(all, petname)
		if entry == nil || entry.Kind != yaml.MappingNode {
			entry = &yaml.Node{Kind: yaml.MappingNode}
			setChild(all, petname, entry)
		}
		setChild(entry, "furl", scalar(f.Text()))
	})
}

func (n *Node) editIntroducers(edit func(all *yaml.Node)) error {
	doc, err := n.readYAML(introducersYAML)
	if err != nil {
		return err
	}
	if _, err := introducersIn(doc); err != nil {
		return err // nothing that we cannot read is written back
	}
	if doc == nil {
		doc = &yaml.Node{Kind: yaml.MappingNode}
	}
	all := child(doc, "introducers")
	if all == nil || all.Kind != yaml.MappingNode {
		all = &yaml.Node{Kind: yaml.MappingNode}
		setChild(doc, "introducers", all)
	}
	edit(all)
	data, err := encodeYAML(doc)
	if err != nil {
		return err
	}
	return n.WritePrivate(introducersYAML, data)
}

func encodeYAML(doc *yaml.Node) ([]byte, error) {
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(doc); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	return out.Bytes(), enc.Close()
}

func introducersIn(doc *yaml.Node) (map[string]furl.FURL, error) {
	found := map[string]furl.FURL{}
	fail := func(line int, detail string, err error) (map[string]furl.FURL, error) {
		return nil, &Error{File: introducersYAML, Line: line, Detail: detail, Err: err}
	}
	if doc == nil {
		return found, nil
	}
	if doc.Kind != yaml.MappingNode {
		return fail(doc.Line, "not a mapping", ErrSyntax)
	}
	all := child(doc, "introducers")
	if all == nil {
		return found, nil
	}
	if all.Kind != yaml.MappingNode {
		return fail(all.Line, "introducers is not a mapping", ErrSyntax)
	}
	for i := 0; i+1 < len(all.Content); i += 2 {
		key, value := all.Content[i], all.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.Tag != "!!str" || CheckPetname(key.Value) != nil {
			return fail(key.Line, "an introducer's name is not usable", ErrValue)
		}
		if value.Kind != yaml.MappingNode {
			return fail(value.Line, "an introducer is not a mapping with its furl", ErrSyntax)
		}
		text := child(value, "furl")
		if text == nil || text.Kind != yaml.ScalarNode || text.Tag != "!!str" {
			return fail(value.Line, "an introducer has no furl", ErrValue)
		}
		f, err := furl.Parse(text.Value)
		if err != nil {
			return fail(text.Line, err.Error(), ErrValue)
		}
		found[key.Value] = f
	}
	return found, nil
}

// StaticServer is a storage server that is known without an introducer.
type StaticServer struct {
	// ID is the server's identity, "v0-" and base32, or a tub id.
	ID string
	// Announcement is what the server would announce, of JSON's types.
	Announcement map[string]any
}

// StaticServers are those of private/servers.yaml, sorted by id, and a warning for
// each entry that is not usable (Tahoe skips them silently).
func (n *Node) StaticServers() ([]StaticServer, []Warning, error) {
	doc, err := n.readYAML(serversYAML)
	if err != nil || doc == nil {
		return nil, nil, err
	}
	return serversIn(doc)
}

func serversIn(doc *yaml.Node) (out []StaticServer, skipped []Warning, err error) {
	if doc.Kind != yaml.MappingNode {
		return nil, nil, &Error{File: serversYAML, Line: doc.Line, Detail: "not a mapping", Err: ErrSyntax}
	}
	all := child(doc, "storage")
	if all == nil {
		return nil, nil, nil
	}
	if all.Kind != yaml.MappingNode {
		return nil, nil, &Error{File: serversYAML, Line: all.Line, Detail: "storage is not a mapping", Err: ErrSyntax}
	}
	for i := 0; i+1 < len(all.Content); i += 2 {
		id := all.Content[i]
		ann := child(all.Content[i+1], "ann")
		skip := func(text string) {
			skipped = append(skipped, Warning{Text: fmt.Sprintf("%s, line %d: server skipped: %s", serversYAML, id.Line, text)})
		}
		if id.Kind != yaml.ScalarNode || id.Tag != "!!str" || !validServerID(id.Value) {
			skip("its id is not one")
			continue
		}
		if ann == nil || ann.Kind != yaml.MappingNode {
			skip("it has no ann")
			continue
		}
		value, err := plain(ann, 0)
		if err != nil {
			skip(err.Error())
			continue
		}
		out = append(out, StaticServer{id.Value, value.(map[string]any)})
	}
	slices.SortFunc(out, func(a, b StaticServer) int { return strings.Compare(a.ID, b.ID) })
	return out, skipped, nil
}

func validServerID(id string) bool {
	if key, ok := strings.CutPrefix(id, "v0-"); ok {
		b, err := taghash.DecodeBase32(key)
		return err == nil && len(b) == 32
	}
	return furl.ValidTubID(id)
}

// plain turns YAML into the types that JSON has; a set becomes a list.
func plain(node *yaml.Node, depth int) (any, error) {
	if depth > 10 {
		return nil, errors.New("nested too deep")
	}
	switch {
	case node.Kind == yaml.ScalarNode:
		var v any
		if err := node.Decode(&v); err != nil {
			return nil, errors.New("a value of no known type")
		}
		switch v := v.(type) {
		case nil, bool, int, float64:
			return v, nil
		case string:
			if !utf8.ValidString(v) {
				return nil, errors.New("text that is not UTF-8")
			}
			return v, nil
		}
		return nil, errors.New("a value of a type that announcements do not have")
	case node.Kind == yaml.SequenceNode:
		list := []any{}
		for _, c := range node.Content {
			v, err := plain(c, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case node.Kind == yaml.MappingNode && node.Tag == "!!set":
		list := []any{}
		for i := 0; i < len(node.Content); i += 2 {
			v, err := plain(node.Content[i], depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case node.Kind == yaml.MappingNode:
		m := map[string]any{}
		for i := 0; i+1 < len(node.Content); i += 2 {
			key := node.Content[i]
			if key.Kind != yaml.ScalarNode || key.Tag != "!!str" {
				return nil, errors.New("a key that is not text")
			}
			v, err := plain(node.Content[i+1], depth+1)
			if err != nil {
				return nil, err
			}
			m[key.Value] = v
		}
		return m, nil
	}
	// Aliases could blow a small file up.
	return nil, errors.New("an alias")
}

// readYAML reads a file of private/ as one YAML document; nil when there is none.
func (n *Node) readYAML(name string) (*yaml.Node, error) {
	text, err := n.ReadPrivate(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseYAML(name, text)
}

func parseYAML(name, text string) (*yaml.Node, error) {
	var doc yaml.Node
	// The parser's own message may quote the file, which is secret.
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		return nil, &Error{File: name, Detail: "not YAML", Err: ErrSyntax}
	}
	if len(doc.Content) == 0 {
		return nil, nil
	}
	root := doc.Content[0]
	if err := noDuplicates(root, 0); err != nil {
		return nil, &Error{File: name, Detail: err.Error(), Err: ErrSyntax}
	}
	return root, nil
}

// noDuplicates refuses a mapping that says two things about one key: readers differ
// in which they take.
func noDuplicates(node *yaml.Node, depth int) error {
	if depth > 20 {
		return errors.New("nested too deep")
	}
	if node.Kind == yaml.MappingNode {
		seen := map[string]bool{}
		for i := 0; i+1 < len(node.Content); i += 2 {
			if key := node.Content[i]; key.Kind == yaml.ScalarNode {
				if seen[key.Value] {
					return fmt.Errorf("line %d: the same key twice", key.Line)
				}
				seen[key.Value] = true
			}
		}
	}
	for _, c := range node.Content {
		if err := noDuplicates(c, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func child(m *yaml.Node, key string) *yaml.Node {
	if m == nil || m.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Kind == yaml.ScalarNode && m.Content[i].Value == key {
			return m.Content[i+1]
		}
	}
	return nil
}

// setChild sets or adds a key.
func setChild(m *yaml.Node, key string, value *yaml.Node) {
	m.Style &^= yaml.FlowStyle
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Kind == yaml.ScalarNode && m.Content[i].Value == key {
			m.Content[i+1] = value
			return
		}
	}
	m.Content = append(m.Content, scalar(key), value)
}

// scalar quotes what Tahoe's YAML 1.1 could take for something else than text.
func scalar(s string) *yaml.Node {
	node := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
	switch s {
	case "introducers", "furl", "default":
	default:
		node.Style = yaml.DoubleQuotedStyle
	}
	return node
}
