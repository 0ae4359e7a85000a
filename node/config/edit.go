package config

import (
	"strings"

	"warren/node/durable"
)

// Setting is one value to write. Section and Key are spelled as in the documentation;
// keys are compared without case.
type Setting struct {
	Section, Key, Value string
}

// Set changes settings, all of them or none: each goes into tahoe.cfg or, when it is
// one of ours, into warren.cfg. Comments, order and everything else in the files
// stay. The settings that result are read and checked before they are written, so
// that a node that starts goes on starting.
func (n *Node) Set(settings ...Setting) error {
	tahoe, own := n.tahoe, n.own
	for _, s := range settings {
		file, err := n.fileOf(s, &tahoe, &own)
		if err != nil {
			return err
		}
		if *file, err = (*file).with(s); err != nil {
			return err
		}
	}
	return n.replace(tahoe, own)
}

func (n *Node) fileOf(s Setting, tahoe, own **ini) (**ini, error) {
	key := strings.ToLower(s.Key)
	switch {
	case hasKey(n.Kind, tahoeKeys, s.Section, key):
		return tahoe, nil
	case hasKey(n.Kind, ownKeys, s.Section, key):
		return own, nil
	}
	return nil, &Error{Section: s.Section, Key: s.Key, Err: ErrUnknownKey}
}

// with checks a setting and returns the file with it.
func (p *ini) with(s Setting) (*ini, error) {
	if err := checkSetting(s); err != nil {
		return nil, err
	}
	return p.set(s.Section, s.Key, escape(s.Value))
}

// checkSetting: sections that take every key take keys from outside, which must not
// be able to say anything else than a key.
func checkSetting(s Setting) error {
	if err := CheckValue(s.Value); err != nil {
		return &Error{Section: s.Section, Key: s.Key, Detail: err.Error(), Err: ErrValue}
	}
	if strings.HasSuffix(strings.ToLower(s.Key), ".furl") && strings.Contains(s.Value, "#") {
		return &Error{Section: s.Section, Key: s.Key, Detail: "unescaped '#'", Err: ErrValue}
	}
	for _, name := range []string{s.Section, s.Key} {
		if name == "" || CheckValue(name) != nil || strings.ContainsAny(name, "=:[]#;%") {
			return &Error{Section: s.Section, Key: s.Key, Detail: "not a name", Err: ErrValue}
		}
	}
	return nil
}

// replace checks new files, writes those that changed and takes them over. A crash
// between the two leaves the first changed: they share no setting.
func (n *Node) replace(tahoe, own *ini) error {
	settings, warnings, err := readSettings(n.Dir, n.Kind, tahoe, own)
	if err != nil {
		return err
	}
	if tahoe != n.tahoe {
		if err := durable.WriteFile(n.Path(tahoeCfg), tahoe.bytes(), 0o600); err != nil {
			return err
		}
		n.tahoe = tahoe
	}
	if own != n.own {
		if err := durable.WriteFile(n.Path(warrenCfg), own.bytes(), 0o600); err != nil {
			return err
		}
		n.own = own
	}
	n.Settings, n.Warnings = settings, warnings
	return nil
}
