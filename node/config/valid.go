package config

import "strings"

// Tahoe's settings, from allmydata.node and allmydata.client of 1.20. Keys are in
// lower case, as the parser returns them.
const (
	nodeKeys        = "log_gatherer.furl nickname reveal-ip-address tempdir timeout.disconnect timeout.keepalive tub.location tub.port web.port web.static"
	connectionsKeys = "tcp"
	torKeys         = "control.port enabled launch socks.port tor.executable onion onion.local_port onion.external_port onion.private_key_file"
	i2pKeys         = "enabled i2p.configdir i2p.executable launch sam.port dest dest.port dest.private_key_file"
	clientKeys      = "helper.furl introducer.furl key_generator.furl mutable.format peers.preferred shares.happy shares.needed shares.total " +
		"shares._max_immutable_segment_size_for_testing storage.plugins force_foolscap"
	storageKeys = "debug_discard enabled anonymous expire.cutoff_date expire.enabled expire.immutable expire.mode expire.mutable " +
		"expire.override_lease_duration readonly reserved_space storage_dir plugins grid_management force_foolscap"
	sftpdKeys  = "accounts.file enabled host_privkey_file host_pubkey_file port"
	helperKeys = "enabled"
)

// tahoeKeys returns the keys of a section, nil when the kind of node has no such
// section. any says that the section takes every key.
func tahoeKeys(kind Kind, section string) (keys string, known, any bool) {
	switch section {
	case "node":
		return nodeKeys, true, false
	case "connections":
		return connectionsKeys, true, false
	case "tor":
		return torKeys, true, false
	case "i2p":
		return i2pKeys, true, false
	}
	if kind != Client {
		return "", false, false
	}
	switch section {
	case "client":
		return clientKeys, true, false
	case "storage":
		return storageKeys, true, false
	case "sftpd":
		return sftpdKeys, true, false
	case "helper":
		return helperKeys, true, false
	case "grid_managers", "grid_manager_certificates":
		return "", true, true
	}
	if strings.HasPrefix(section, "storageserver.plugins.") || strings.HasPrefix(section, "storageclient.plugins.") {
		return "", true, true
	}
	return "", false, false
}

// ownKeys returns the keys of a section of warren.cfg.
func ownKeys(_ Kind, section string) (keys string, known, any bool) {
	switch section {
	case "grid":
		return "name", true, false
	case "tor":
		return "tor.torrc", true, false
	case "mailbox":
		return "enabled port location", true, false
	case "invite":
		return "mailbox", true, false
	case "upkeep":
		return "enabled repair history", true, false
	}
	return "", false, false
}

type keysOf func(kind Kind, section string) (keys string, known, any bool)

func hasKey(kind Kind, of keysOf, section, key string) bool {
	keys, known, all := of(kind, section)
	if !known {
		return false
	}
	if all {
		return true
	}
	for k := range strings.FieldsSeq(keys) {
		if k == key {
			return true
		}
	}
	return false
}

// checkKnown refuses every section and key that is not listed: a misspelled setting
// must not be silently without effect.
func (p *ini) checkKnown(kind Kind, of keysOf) error {
	for _, section := range p.order {
		if section == defaultSection {
			// Python would add its keys to every section, and Tahoe then refuse them
			// there.
			if len(p.values[section]) > 0 {
				return &Error{File: p.file, Section: section, Err: ErrUnknownSection}
			}
			continue
		}
		if _, known, _ := of(kind, section); !known {
			return &Error{File: p.file, Section: section, Err: ErrUnknownSection}
		}
		for key := range p.values[section] {
			if !hasKey(kind, of, section, key) {
				return &Error{File: p.file, Line: p.line(section, key), Section: section, Key: key, Err: ErrUnknownKey}
			}
		}
	}
	return nil
}

func (p *ini) line(section, key string) int {
	if places := p.places[section][key]; len(places) > 0 {
		return places[len(places)-1].from + 1
	}
	return 0
}
