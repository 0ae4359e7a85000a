package interop

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"strings"
	"testing"

	"warren/magicfolder"
	"warren/magicfolder/snapshot"
)

// MakeFolderDirectory makes a Collective or Personal directory through a node's web API,
// with entries by name (kind and readcap), and gives its writecap.
func MakeFolderDirectory(t testing.TB, c *WebClient, entries map[string][2]string) string {
	t.Helper()
	model := string(c.Must(t, "PUT", "/uri", strings.NewReader(snapshot.DirectoryMetadata)))
	children := map[string]any{snapshot.MetadataName: childOf("filenode", model, nil)}
	for name, e := range entries {
		children[name] = childOf(e[0], e[1], nil)
	}
	return postJSON(t, c, "/uri?t=mkdir-with-children", children)
}

// PutSnapshot stores a version of a file, signed with key, and gives its cap. No
// participant's program has a part in it: who links it plays one.
func PutSnapshot(t testing.TB, c *WebClient, key ed25519.PrivateKey, m snapshot.Metadata, content []byte) magicfolder.Cap {
	t.Helper()
	m.Author.Key = key.Public().(ed25519.PublicKey)
	put := func(data []byte) magicfolder.Cap {
		return magicfolder.Cap(c.Must(t, "PUT", "/uri", bytes.NewReader(data)))
	}
	children := map[string]any{}
	for _, e := range snapshot.Entries(key, m, put(content), put(m.Encode()), m.Modified) {
		children[e.Name] = childOf("filenode", e.Read.Text(), e.Metadata)
	}
	return magicfolder.Cap(postJSON(t, c, "/uri?t=mkdir-immutable", children))
}

func childOf(kind, readcap string, metadata json.RawMessage) []any {
	node := map[string]any{"ro_uri": readcap}
	if metadata != nil {
		node["metadata"] = metadata
	}
	return []any{kind, node}
}

func postJSON(t testing.TB, c *WebClient, path string, body any) string {
	t.Helper()
	return strings.TrimSpace(string(c.Must(t, "POST", path, bytes.NewReader(mustJSON(t, body)))))
}
