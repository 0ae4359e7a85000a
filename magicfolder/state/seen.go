package state

import "warren/magicfolder/remote"

// Seen gives the version of a path that a participant's directory showed last; "" when
// none is remembered.
func (t *Tx) Seen(dir remote.Cap, key string) remote.Cap {
	b := t.all.Bucket([]byte("seen"))
	if b == nil {
		return ""
	}
	return remote.Cap(b.Get(seenAt(dir, key)))
}

// PutSeen remembers it.
func (t *Tx) PutSeen(dir remote.Cap, key string, c remote.Cap) error {
	b, err := t.all.CreateBucketIfNotExists([]byte("seen"))
	if err != nil {
		return err
	}
	return b.Put(seenAt(dir, key), []byte(c))
}

func seenAt(dir remote.Cap, key string) []byte { return append(digest(dir)[:16], key...) }
