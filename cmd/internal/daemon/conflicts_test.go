package daemon

import (
	"encoding/json"
	"reflect"
	"testing"

	"warren/magicfolder"
)

// What an undelete answers comes out as it went in, as a file's or a directory's.
func TestUndeletedJSON(t *testing.T) {
	file := magicfolder.Restored{Path: "f", Version: magicfolder.FileVersion{Number: 2, ID: "id", Size: 3}, Remade: true}
	for _, want := range []Undeleted{
		{Restored: &file},
		{Below: &magicfolder.Below{Path: "d", Files: []magicfolder.Restored{}, Failed: []magicfolder.FileStatus{{Path: "d/f", Message: "why"}}}},
		{Below: &magicfolder.Below{Path: "d", Files: []magicfolder.Restored{file}, Failed: []magicfolder.FileStatus{}}},
	} {
		raw, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got Undeleted
		if err := json.Unmarshal(raw, &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", raw, got, err)
		}
		var plain map[string]any
		if err := json.Unmarshal(raw, &plain); err != nil || plain["path"] == nil {
			t.Errorf("%s: %v", raw, err)
		}
	}
}
