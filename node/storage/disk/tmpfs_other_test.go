//go:build !linux

package disk

import "testing"

func TestFullTmpfs(t *testing.T) {
	t.Skip("SKIP: no full filesystem was tried: a small one is a tmpfs here, Linux only")
}
