package interop

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"warren/magicfolder/gridtest"
	"warren/magicfolder/remote"
	"warren/magicfolder/snapshot"
)

type snapshotJob struct {
	Cap             string `json:"cap"`
	Content         string `json:"content"`
	ContentMetadata string `json:"content_metadata"`
	MetadataCap     string `json:"metadata_cap"`
	MetadataBeside  string `json:"metadata_metadata"`
	Metadata        []byte `json:"metadata"`
}

type snapshotSeen struct {
	Error     string
	Relpath   string
	Author    string
	VerifyKey string `json:"verify_key"`
	Content   string
	Modified  int64
	Parents   []string
	Encoded   []byte
}

// Snapshots that we write are read, verified and encoded the same by magic-folder.
func TestMagicFolderReadsOurSnapshots(t *testing.T) {
	python := Python(t)
	grid := gridtest.New().Client("ours")
	var jobs []snapshotJob
	var want []snapshot.Metadata
	var parents []remote.Cap
	put := func(data []byte) remote.Cap {
		c, err := grid.PutFile(t.Context(), bytes.NewReader(data), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	paths := []string{"notes.txt", "dir/sub/@x", "line\nbreak", "שלום/ü", "😀 \"q\"\\", strings.Repeat("y", 255), "del\x7f", "\u2028"}
	for i, relpath := range paths {
		for _, data := range [][]byte{[]byte("short"), bytes.Repeat([]byte{byte(i)}, 200), nil, {}} {
			seed := sha256.Sum256([]byte(relpath))
			key := ed25519.NewKeyFromSeed(seed[:])
			m := snapshot.Metadata{Relpath: relpath, Modified: int64(1600000000 + i), Parents: parents,
				Author: snapshot.Author{Name: "Zoë " + string(rune('a'+i)), Key: key.Public().(ed25519.PublicKey)}}
			var content remote.Cap
			if data != nil {
				content = put(data)
			}
			raw := m.Encode()
			meta := put(raw)
			entries := snapshot.Entries(key, m, content, meta, 1700000000)
			c, err := grid.PutDirectory(t.Context(), entries)
			if err != nil {
				t.Fatal(err)
			}
			jobs = append(jobs, snapshotJob{c.Text(), content.Text(), string(entries[0].Metadata), meta.Text(), string(entries[1].Metadata), raw})
			want = append(want, m)
			parents = append([]remote.Cap{c}, parents...)
			parents = parents[:min(len(parents), 3)]
		}
	}
	// And one that is forged: the path is not what was signed.
	forged := jobs[0]
	forged.Metadata = bytes.Replace(forged.Metadata, []byte("notes.txt"), []byte("other.txt"), 1)
	input, err := json.Marshal(append(jobs, forged))
	if err != nil {
		t.Fatal(err)
	}
	out, err := TryRunInput(t, time.Minute, bytes.NewReader(input), python, filepath.Join(Root(t), "tests", "vectors", "gen_magicfolder.py"), "verify")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != len(jobs)+1 {
		t.Fatalf("%d answers to %d snapshots", len(lines), len(jobs)+1)
	}
	for i, line := range lines {
		var seen snapshotSeen
		if err := json.Unmarshal([]byte(line), &seen); err != nil {
			t.Fatal(err)
		}
		if i == len(jobs) {
			if seen.Error == "" {
				t.Error("magic-folder took the forged one: the test proves nothing")
			}
			continue
		}
		m := want[i]
		if seen.Error != "" {
			t.Errorf("%q: magic-folder refuses it: %s", m.Relpath, seen.Error)
			continue
		}
		if seen.Relpath != m.Relpath || seen.Author != m.Author.Name || seen.Content != jobs[i].Content || seen.Modified != m.Modified ||
			seen.VerifyKey != base64.StdEncoding.EncodeToString(m.Author.Key) || len(seen.Parents) != len(m.Parents) {
			t.Errorf("%q: magic-folder sees %+v", m.Relpath, seen)
		}
		if !bytes.Equal(seen.Encoded, jobs[i].Metadata) {
			t.Errorf("%q: magic-folder would write\n%s\nwe wrote\n%s", m.Relpath, seen.Encoded, jobs[i].Metadata)
		}
	}
}
