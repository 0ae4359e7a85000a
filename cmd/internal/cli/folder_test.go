package cli

import (
	"bytes"
	"testing"

	"warren/cmd/internal/ui"
	"warren/magicfolder"
)

// A folder's line says how much is left of what, with bytes where they are known.
func TestFolderLine(t *testing.T) {
	for want, st := range map[string]magicfolder.Status{
		"folder docs: up to date, in /d\n": {State: magicfolder.StateCurrent},
		"folder docs: waiting (too few servers), 1 file to upload (31 kB), in /d\n": {
			State: magicfolder.StateWaiting, Reason: "too few servers", ToUpload: magicfolder.Count{Files: 1, Bytes: 30720}},
		"folder docs: syncing, 2 files to upload, 3 files to fetch (2.1 MB), 1 version to publish, 2 files being written to, 1 conflict, in /d\n": {
			State: magicfolder.StateSyncing, ToUpload: magicfolder.Count{Files: 2}, ToDownload: magicfolder.Count{Files: 3, Bytes: 2 << 20}, ToLink: 1, Changing: 2,
			Conflicts: []magicfolder.ConflictStatus{{Path: "a", File: "a.conflict-bob", Name: "bob"}}},
	} {
		var out bytes.Buffer
		st.Name, st.Dir = "docs", "/d"
		e := env{ui: &ui.UI{Out: &out}}
		e.folderLine(st)
		if out.String() != want {
			t.Errorf("%q, want %q", out.String(), want)
		}
	}
}
